"""Learns query embeddings of items that predict the next item of a user.

This is the item-to-item model of the last section of the TensorFlow Recommenders tutorial. It is
trained on pairs of consecutive items of the same user. The candidate embeddings are those of the
retrieval model and are not trained further, so that one index serves both. An item without a next
item keeps its candidate embedding as its query embedding.
"""

import math
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
    """The shares of held-out next items that are among the 10 and the 100 nearest items."""

    top_10: float
    top_100: float


class _ItemToItemModel(tfrs.Model):
    """Softmax over the next items of a batch, corrected for how often each one is a next item."""

    def __init__(self, vectors: NDArray[np.float32], temperature: float) -> None:
        super().__init__()
        self._candidates = tf.constant(vectors)
        self.queries = tf.Variable(vectors, name="queries")
        self._task = tfrs.tasks.Retrieval(temperature=temperature, remove_accidental_hits=True)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:  # noqa: ARG002
        return self._task(
            tf.math.l2_normalize(tf.gather(self.queries, features["item"]), axis=-1),
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
    """Train query embeddings of items on pairs of consecutive items.

    Args:
        histories: the items of all users, in time order.
        candidate_vectors: float32 [N, D], the embeddings of all items as candidates.
        config: the settings of the training.
        seed: the seed of the order of the pairs.
        console: shows the progress.

    Returns:
        Query embeddings of length 1, float32 [N, D].
    """
    tf.keras.utils.set_random_seed(seed)
    item, next_items = pairs(histories)
    model = _ItemToItemModel(candidate_vectors, config.temperature)
    model.compile(optimizer=tf.keras.optimizers.Adam(config.learning_rate))
    counts = np.bincount(next_items, minlength=len(candidate_vectors))
    probability = (counts / max(len(next_items), 1)).astype(np.float32)
    steps = math.ceil(len(item) / config.batch_size)
    if steps:
        arrays = {"item": item, "next": next_items, "probability": probability[next_items]}
        data = _shuffled(arrays, config.batch_size, steps, seed)
        with ProgressBar(console, config.epochs, steps) as bar:
            model.fit(data, epochs=config.epochs, callbacks=[bar], verbose=0)
    return unit_length(model.queries.numpy())


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale embeddings, float32 [N, D], to length 1.

    The scaled candidate embedding of an item is its query embedding before training.
    """
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


def pairs(histories: Histories) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return all pairs of consecutive items of the same user: int32 [P] each."""
    has_next = np.flatnonzero(histories.ages() > 0)
    return histories.items[has_next], histories.items[has_next + 1]


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

    An item is not its own neighbour.

    Args:
        item_queries: float32 [N, D], the query embeddings of items.
        candidate_vectors: float32 [N, D].
        parts: the training and test rows of one data set.

    Returns:
        The quality, or None if no test row has an earlier training row of the same user.
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
    """Return pairs of a training item and the test item that follows it: int32 [P] each.

    The training item is the newest one of the same user that is older than the test row. Pairs of
    the same item twice are left out.
    """
    if train.timestamps is None or test.timestamps is None or not len(train):
        empty = np.zeros(0, np.int32)
        return empty, empty
    # The sort is stable, so that the last of several rows of the same second is the newest.
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
