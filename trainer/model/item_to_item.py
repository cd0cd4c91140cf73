"""Trained similar items: which item users go to from this one.

A query tower for items beside the candidate tower, as the last section of the tutorial of
TensorFlow Recommenders asks for, learnt from pairs of consecutive items of the same user. The
candidate tower is the retrieval model's and stays as it is, so that one index serves both. An
item that nobody went on from keeps its own candidate vector as its query.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from numpy.typing import NDArray
from rich.console import Console

from trainer.config import ItemToItemConfig
from trainer.data.histories import Histories
from trainer.data.types import Interactions, Split
from trainer.model.training.progress import ProgressBar

# Of the score matrix of an evaluation: 128 MB of float32.
_SCORES_AT_ONCE = 32_000_000


@dataclass(frozen=True)
class NextItemQuality:
    """The share of held-out next items among the 10 and the 100 nearest."""

    top_10: float
    top_100: float


class _ItemToItemModel(tfrs.Model):
    """In-batch softmax over the next items, corrected for how often each is one."""

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
    """Query vectors of items, float32 [N, D], for candidates with vectors float32 [N, D]."""
    tf.keras.utils.set_random_seed(seed)
    item, following = pairs(histories)
    model = _ItemToItemModel(candidate_vectors, config.temperature)
    model.compile(optimizer=tf.keras.optimizers.Adam(config.learning_rate))
    counts = np.bincount(following, minlength=len(candidate_vectors))
    probability = (counts / max(len(following), 1)).astype(np.float32)
    steps = -(-len(item) // config.batch_size)
    if steps:
        arrays = {"item": item, "next": following, "probability": probability[following]}
        data = _shuffled(arrays, config.batch_size, steps, seed)
        with ProgressBar(console, config.epochs, steps) as bar:
            model.fit(data, epochs=config.epochs, callbacks=[bar], verbose=0)
    else:
        model.queries.build(None)
    return _unit_length(model.queries.get_weights()[0])


def untrained(candidate_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What :func:`train` leaves of items that nobody went on from: float32 [N, D] both."""
    return _unit_length(candidate_vectors)


def _unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors / np.maximum(
        np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6
    )
    return scaled


def pairs(histories: Histories) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Items and the one that the same user did next: int32 [P] each."""
    followed = np.flatnonzero(histories.ages() > 0)
    return histories.items[followed], histories.items[followed + 1]


def _shuffled(
    arrays: Mapping[str, NDArray[np.generic]], batch_size: int, steps: int, seed: int
) -> tf.data.Dataset:
    """Batches of the rows of ``arrays``, in a new order each epoch.

    By NumPy: the shuffle of tf.data keeps every row as tensors of its own, half a kilobyte each.
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
    """How often the item of a test row is near the training item that its user did before it.

    The item itself is left out of its neighbours. None where no test row has such an item.
    """
    item, following = _held_out_pairs(parts.train, parts.test)
    if not len(item):
        return None
    ranks = []
    at_once = max(1, _SCORES_AT_ONCE // len(candidate_vectors))
    for start in range(0, len(item), at_once):
        asked, wanted = item[start : start + at_once], following[start : start + at_once]
        scores = item_queries[asked] @ candidate_vectors.T
        place = np.arange(len(asked))
        target = scores[place, wanted][:, None]
        scores[place, asked] = -np.inf
        ranks.append((scores > target).sum(axis=1))
    rank = np.concatenate(ranks)
    return NextItemQuality(float(np.mean(rank < 10)), float(np.mean(rank < 100)))


def _held_out_pairs(
    train: Interactions, test: Interactions
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each test row the newest training item of its user that is older, and its own item."""
    if train.timestamps is None or test.timestamps is None or not len(train):
        nothing = np.zeros(0, np.int32)
        return nothing, nothing
    # Places in time instead of times, so that one number sorts as user and time do.
    times, place_in_time = np.unique(
        np.concatenate([train.timestamps, test.timestamps]), return_inverse=True
    )
    users = np.concatenate([train.users, test.users]).astype(np.int64)
    keys, asked = np.split(users * len(times) + place_in_time, [len(train)])
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys[order], asked) - 1
    before = order[np.maximum(place, 0)]
    found = (place >= 0) & (train.users[before] == test.users)
    item, following = train.items[before][found], test.items[found]
    other = item != following
    return item[other], following[other]
