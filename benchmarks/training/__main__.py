"""Compare training throughput with the TensorFlow Recommenders tutorial, on MovieLens 25M's shape.

The random data has 162,000 users, 59,000 items and 25 million rows, with clusters of taste and a
skewed popularity. Two models take turns to train on the data in one process. The basic retrieval
tutorial's model (ids through StringLookup and Embedding, 32 dimensions, in-batch softmax over 8,192
rows, Adagrad) trains for some steps. Shortlist's default configuration trains for one epoch. An
interaction counts when it was a target of the loss.
"""

import resource
import statistics
import time

import trainer  # noqa: F401  (chooses Keras 2)

# isort: split
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from rich.console import Console

from benchmarks import reporting
from trainer import config
from trainer.data.types import Dataset, Interactions
from trainer.model import training

USERS, ITEMS, TASTES = 162_000, 59_000, 30
_TUTORIAL_BATCH = 8192


def draw_dataset(rows: int) -> Dataset:
    """Draw a data set in which half of each user's items match the user's taste."""
    random = np.random.default_rng(0)
    activity = random.lognormal(sigma=1.2, size=USERS)
    counts = np.maximum(20, rows * activity / activity.sum()).astype(np.int64)
    users = np.repeat(np.arange(USERS, dtype=np.int32), counts)
    popularity = (10.0 + random.permutation(ITEMS)) ** -1.0
    item_taste = random.integers(TASTES, size=ITEMS)
    items = random.choice(ITEMS, len(users), p=popularity / popularity.sum())
    row_taste = random.integers(TASTES, size=USERS)[users]
    by_taste = random.random(len(users)) < 0.5
    for taste in range(TASTES):
        rows_of_taste = np.flatnonzero(by_taste & (row_taste == taste))
        items_of_taste = np.flatnonzero(item_taste == taste)
        weights = popularity[items_of_taste]
        items[rows_of_taste] = random.choice(
            items_of_taste, len(rows_of_taste), p=weights / weights.sum()
        )
    order = random.permutation(len(users))
    return Dataset(
        name="25M-shape",
        user_ids=np.array([f"u{number}" for number in range(USERS)], object),
        item_ids=np.array([f"i{number}" for number in range(ITEMS)], object),
        titles=np.array([f"i{number}" for number in range(ITEMS)], object),
        interactions=Interactions(users[order], items[order].astype(np.int32)),
    )


class _Tutorial(tfrs.Model):
    """https://www.tensorflow.org/recommenders/examples/basic_retrieval"""

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        self.user = self._tower(data.user_ids)
        self.item = self._tower(data.item_ids)
        self.task = tfrs.tasks.Retrieval()

    def _tower(self, ids: np.ndarray) -> tf.keras.Model:
        lookup = tf.keras.layers.StringLookup(vocabulary=list(ids), mask_token=None)
        return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(ids) + 1, 32)])

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.task(
            self.user(features["user"]), self.item(features["item"]), compute_metrics=not training
        )


def tutorial(data: Dataset, steps: int) -> float:
    """Train the tutorial's model for some steps; return interactions per second."""
    rows = data.interactions
    users, items = tf.constant(list(data.user_ids)), tf.constant(list(data.item_ids))
    batches = (
        tf.data.Dataset.from_tensor_slices((rows.users[:4_000_000], rows.items[:4_000_000]))
        .repeat()
        .batch(_TUTORIAL_BATCH)
        .map(lambda user, item: {"user": tf.gather(users, user), "item": tf.gather(items, item)})
        .prefetch(tf.data.AUTOTUNE)
    )
    model = _Tutorial(data)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    # The first steps trace the graphs and are not timed.
    model.fit(batches, steps_per_epoch=5, verbose=0)
    start = time.perf_counter()
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return steps * _TUTORIAL_BATCH / (time.perf_counter() - start)


def ours(data: Dataset) -> training.TrainedModel:
    """Train Shortlist's default configuration for one epoch."""
    settings = ["training.validation_share=0.0", "training.epochs=1"]
    return training.train(
        data, data.interactions, config.load(settings=settings), Console(quiet=True)
    )


def main() -> None:
    """Run all measurements and print medians and ranges."""
    parser = reporting.argument_parser("benchmarks.training", __doc__)
    reporting.add_option(parser, "--rows", 25_000_000, "Number of interactions in the data")
    reporting.add_option(parser, "--steps", 80, "Number of training steps of the tutorial's model")
    reporting.add_option(parser, "--rounds", 3, "How many times to measure each model")
    reporting.add_json(parser)
    arguments = parser.parse_args()
    started = time.perf_counter()
    data = draw_dataset(arguments.rows)
    print(f"{len(data.interactions):,} rows drawn in {time.perf_counter() - started:.0f} s")
    rates: dict[str, list[float]] = {"tutorial": [], "ours": []}
    seconds = []
    for _ in range(arguments.rounds):
        rates["tutorial"].append(tutorial(data, arguments.steps))
        trained = ours(data)
        rates["ours"].append(trained.interactions_per_second)
        seconds.append(trained.seconds)
    print(reporting.machine("tensorflow"))
    for name, values in rates.items():
        print(f"{name:10} {reporting.median_and_range(values, 0)} interactions/s")
    print(f"ours, one epoch from rows to vectors: {statistics.median(seconds):.0f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory of the process, including the data: {peak:.1f} GiB")
    reporting.write_json(arguments, ["tensorflow"], interactions_per_s=rates)


if __name__ == "__main__":
    main()
