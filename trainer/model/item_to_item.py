"""Learns a query embedding for each item that predicts which item a user interacts with next.

This is the item-to-item model from the last section of the TensorFlow Recommenders tutorial. It is
trained on pairs of consecutive items of the same user. The candidate embeddings come from the
retrieval model and stay fixed, so that one index serves user queries and item queries. An item that
no other item follows keeps its candidate embedding, scaled to length 1, as its query embedding.
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

# The maximum number of scores held in memory during evaluation: 128 MB of float32.
_MAX_SCORES = 32_000_000


@dataclass(frozen=True)
class NextItemQuality:
    """Shares of held-out next items ranked in the top 10 and top 100 for the item before them."""

    top_10: float
    top_100: float


class _ItemToItemModel(tfrs.Model):
    """A softmax over the next items in a batch, corrected for how often each is a next item."""

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
    """Train a query embedding for each item on pairs of consecutive items.

    Args:
        histories: the items of every user, oldest first.
        candidate_vectors: float32 [N, D], the candidate embeddings of all items.
        config: the training settings.
        seed: seeds the shuffling of the pairs.
        console: where progress is shown.

    Returns:
        Unit-length query embeddings of all items, float32 [N, D].
    """
    tf.keras.utils.set_random_seed(seed)
    items, next_items = pairs(histories)
    model = _ItemToItemModel(candidate_vectors, config.temperature)
    model.compile(optimizer=tf.keras.optimizers.Adam(config.learning_rate))
    counts = np.bincount(next_items, minlength=len(candidate_vectors))
    probabilities = (counts / max(len(next_items), 1)).astype(np.float32)
    steps = math.ceil(len(items) / config.batch_size)
    if steps:
        arrays = {"item": items, "next": next_items, "probability": probabilities[next_items]}
        batches = _shuffled(arrays, config.batch_size, steps, seed)
        with ProgressBar(console, config.epochs, steps) as bar:
            model.fit(batches, epochs=config.epochs, callbacks=[bar], verbose=0)
    return unit_length(model.queries.numpy())


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale embeddings, float32 [N, D], to length 1.

    Also gives the query embeddings of items that were not trained, such as those added by refresh.
    """
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


def pairs(histories: Histories) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the first and second items of all consecutive pairs, as two int32 [P] arrays."""
    firsts = np.flatnonzero(histories.newer_counts() > 0)
    return histories.items[firsts], histories.items[firsts + 1]


def _shuffled(
    arrays: Mapping[str, NDArray[np.generic]], batch_size: int, steps: int, seed: int
) -> tf.data.Dataset:
    """Return batches of the rows of ``arrays``, in a new order in every epoch.

    NumPy shuffles the rows, because tf.data's shuffle buffer needs about half a kilobyte per row.
    """
    rng = np.random.default_rng(seed)

    def epoch() -> Iterator[dict[str, NDArray[np.generic]]]:
        order = rng.permutation(len(arrays["item"]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield {name: values[rows] for name, values in arrays.items()}

    signature = {name: tf.TensorSpec([None], values.dtype) for name, values in arrays.items()}
    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    return data.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def evaluate(
    item_queries: NDArray[np.float32], candidate_vectors: NDArray[np.float32], split: Split
) -> NextItemQuality | None:
    """Measure how often a test item ranks near the top for the training item before it.

    The query item is excluded from its own ranking.

    Args:
        item_queries: float32 [N, D], the query embeddings of all items.
        candidate_vectors: float32 [N, D], the candidate embeddings of all items.
        split: the training and test rows of one data set.

    Returns:
        The quality, or None if no test row follows a training row of the same user.
    """
    items, next_items = _held_out_pairs(split.train, split.test)
    if not len(items):
        return None
    batch_ranks = []
    batch_size = max(1, _MAX_SCORES // len(candidate_vectors))
    for start in range(0, len(items), batch_size):
        queries, targets = items[start : start + batch_size], next_items[start : start + batch_size]
        scores = item_queries[queries] @ candidate_vectors.T
        rows = np.arange(len(queries))
        target_scores = scores[rows, targets][:, None]
        scores[rows, queries] = -np.inf
        batch_ranks.append((scores > target_scores).sum(axis=1))
    ranks = np.concatenate(batch_ranks)
    return NextItemQuality(float(np.mean(ranks < 10)), float(np.mean(ranks < 100)))


def _held_out_pairs(
    train: Interactions, test: Interactions
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return training items and the test items that follow them, as two int32 [P] arrays.

    Each training item is the user's newest one that is older than the test row. Pairs of an item
    with itself are left out.
    """
    if train.timestamps is None or test.timestamps is None or not len(train):
        empty = np.zeros(0, np.int32)
        return empty, empty
    # The sort is stable, so that of rows with the same timestamp, the last counts as the newest.
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
