"""Learns query embeddings of items that predict the next item of a user.

This is the item-to-item model of the last section of the TensorFlow Recommenders tutorial. It is
trained on pairs of consecutive items of the same user. The candidate tower is that of the retrieval
model and is not trained further, so that one index serves both. An item without a next item keeps
its candidate embedding as its query.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_recommenders as tfrs
from numpy.typing import NDArray
from rich.console import Console

from trainer.config import ItemToItemConfig
from trainer.data.histories import Histories
from trainer.data.types import Interactions, Split
from trainer.model.training.callbacks import ProgressBar

# Size of the score matrix of an evaluation: 128 MB of float32.
_MAX_SCORES = 32_000_000


@dataclass(frozen=True)
class NextItemQuality:
    """Share of held-out next items that are among the 10 and the 100 nearest items."""

    top_10: float
    top_100: float


class _ItemToItemModel(tfrs.Model):
    """In-batch softmax over next items, corrected for how often each one is a next item."""

    def __init__(self, vectors: NDArray[np.float32], temperature: float) -> None:
        super().__init__()
        self._candidates = tf.constant(vectors)
        self.queries = tf.keras.layers.Embedding(
            *vectors.shape, embeddings_initializer=tf.keras.initializers.Constant(vectors)
        )
        self._task = tfrs.tasks.Retrieval(temperature=temperature, remove_accidental_hits=True)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:  # noqa: ARG002
        return self._task(
            tf.math.l2_normalize(self.queries(features["item"]), axis=-1),
            tf.gather(self._candidates, features["next"]),
            candidate_ids=features["next"],
            candidate_sampling_probability=features["probability"],
            compute_metrics=False,
        )


def train(
    histories: Histories,
    candidate_vectors: NDArray[np.float32],
    config: ItemToItemConfig,
    *,
    seed: int,
    console: Console,
) -> NDArray[np.float32]:
    """Return query embeddings, float32 [N, D], for N items with candidate embeddings [N, D]."""
    tf.keras.utils.set_random_seed(seed)
    item, next_items = pairs(histories)
    model = _ItemToItemModel(candidate_vectors, config.temperature)
    model.compile(optimizer=tf.keras.optimizers.Adam(config.learning_rate))
    counts = np.bincount(next_items, minlength=len(candidate_vectors))
    probability = (counts / max(len(next_items), 1)).astype(np.float32)
    steps = -(-len(item) // config.batch_size)
    if steps:
        arrays = {"item": item, "next": next_items, "probability": probability[next_items]}
        data = _shuffled(arrays, config.batch_size, steps, seed)
        with ProgressBar(console, config.epochs, steps) as bar:
            model.fit(data, epochs=config.epochs, callbacks=[bar], verbose=0)
    else:
        model.queries.build(None)
    return unit_length(model.queries.get_weights()[0])


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale embeddings, float32 [N, D], to length 1, as this model does with item queries.

    The query embedding of an item without a next item is its scaled candidate embedding.
    """
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


def pairs(histories: Histories) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return all pairs of consecutive items of the same user: int32 [P] each."""
    followed = np.flatnonzero(histories.ages() > 0)
    return histories.items[followed], histories.items[followed + 1]


def _shuffled(
    arrays: Mapping[str, NDArray[np.generic]], batch_size: int, steps: int, seed: int
) -> tf.data.Dataset:
    """Return batches of the rows of ``arrays``, in a new order in every epoch.

    NumPy shuffles the rows, because tf.data would keep each of them as tensors of half a kilobyte.
    """
    random = np.random.default_rng(seed)

    def epoch() -> Iterator[dict[str, NDArray[np.generic]]]:
        order = random.permutation(len(arrays["item"]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield {name: values[chosen] for name, values in arrays.items()}

    signature = {name: tf.TensorSpec([None], values.dtype) for name, values in arrays.items()}
    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    return data.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def evaluate(
    item_queries: NDArray[np.float32], candidate_vectors: NDArray[np.float32], parts: Split
) -> NextItemQuality | None:
    """Measure how often a test item is near the training item that precedes it in the history.

    An item is not its own neighbour. Returns None if no test row has an earlier training row.
    """
    item, next_items = _held_out_pairs(parts.train, parts.test)
    if not len(item):
        return None
    ranks = []
    batch_size = max(1, _MAX_SCORES // len(candidate_vectors))
    for start in range(0, len(item), batch_size):
        queries, targets = item[start : start + batch_size], next_items[start : start + batch_size]
        scores = item_queries[queries] @ candidate_vectors.T
        position = np.arange(len(queries))
        target_scores = scores[position, targets][:, None]
        scores[position, queries] = -np.inf
        ranks.append((scores > target_scores).sum(axis=1))
    rank = np.concatenate(ranks)
    return NextItemQuality(float(np.mean(rank < 10)), float(np.mean(rank < 100)))


def _held_out_pairs(
    train: Interactions, test: Interactions
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return for each test row the newest older training item of its user, and its own item."""
    if train.timestamps is None or test.timestamps is None or not len(train):
        empty = np.zeros(0, np.int32)
        return empty, empty
    # Of rows of the same second, the last one is the newest.
    before, after = (
        pd.DataFrame({"time": rows.timestamps, "user": rows.users, "item": rows.items}).sort_values(
            "time", kind="stable"
        )
        for rows in (train, test)
    )
    next_pairs = pd.merge_asof(
        after, before, on="time", by="user", allow_exact_matches=False, suffixes=("", "_before")
    ).dropna()
    next_pairs = next_pairs[next_pairs["item"] != next_pairs["item_before"]]
    return next_pairs["item_before"].to_numpy(np.int32), next_pairs["item"].to_numpy(np.int32)
