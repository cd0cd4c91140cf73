"""Trains the two towers on the training rows of a data set."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from serving_contract import ITEM_ID, USER_ID
from trainer.config import Config, TrainingConfig
from trainer.data.types import Dataset, Interactions
from trainer.model import ITEM_ROW, SAMPLING_PROBABILITY, TwoTowerModel
from trainer.towers import IdTower

_SHUFFLE_BUFFER = 2_000_000


@dataclass(frozen=True)
class TrainedModel:
    """What training leaves: the towers, and how it went."""

    query_tower: IdTower
    candidate_tower: IdTower
    losses: list[float]  # [epochs], the loss of the last step, summed over its batch
    seconds: float
    interactions_per_second: float


def train(
    dataset: Dataset, rows: Interactions, config: Config, log_dir: Path | None = None
) -> TrainedModel:
    """Train on ``rows``; users without one of them stay unknown to the model.

    Args:
        dataset: gives the ids; its own interactions are not looked at.
        rows: the training rows, N of them.
        config: the run's configuration.
        log_dir: where TensorBoard's logs go; none are written without it.
    """
    tf.keras.utils.set_random_seed(config.seed)
    users = np.unique(rows.users)
    query_tower = IdTower(
        dataset.user_ids[users],
        config.model.embedding_dim,
        normalize=config.model.normalize,
        seed=config.seed,
        name="query_tower",
    )
    candidate_tower = IdTower(
        dataset.item_ids,
        config.model.embedding_dim,
        normalize=config.model.normalize,
        seed=config.seed + 1,
        name="candidate_tower",
    )
    model = TwoTowerModel(query_tower, candidate_tower, config.training)
    model.compile(optimizer=_optimizer(config.training))
    callbacks = [] if log_dir is None else [tf.keras.callbacks.TensorBoard(str(log_dir))]
    started = time.perf_counter()
    history = model.fit(
        _batches(dataset, rows, config),
        epochs=config.training.epochs,
        callbacks=callbacks,
        # A bar for people, a line an epoch for log files.
        verbose=1 if sys.stdout.isatty() else 2,
    )
    seconds = time.perf_counter() - started
    return TrainedModel(
        query_tower=query_tower,
        candidate_tower=candidate_tower,
        losses=[float(loss) for loss in history.history["total_loss"]],
        seconds=seconds,
        interactions_per_second=len(rows) * config.training.epochs / seconds,
    )


def _optimizer(config: TrainingConfig) -> tf.keras.optimizers.Optimizer:
    kind = {"adagrad": tf.keras.optimizers.Adagrad, "adam": tf.keras.optimizers.Adam}
    return kind[config.optimizer](config.learning_rate)


def _batches(dataset: Dataset, rows: Interactions, config: Config) -> tf.data.Dataset:
    """Batches of features, in a new seeded order every epoch."""
    user_ids = tf.constant(list(dataset.user_ids))
    item_ids = tf.constant(list(dataset.item_ids))
    counts = np.bincount(rows.items, minlength=len(dataset.item_ids))
    probability = tf.constant((counts / len(rows)).astype(np.float32))

    def features(users: tf.Tensor, items: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            USER_ID: tf.gather(user_ids, users),
            ITEM_ID: tf.gather(item_ids, items),
            ITEM_ROW: items,
            SAMPLING_PROBABILITY: tf.gather(probability, items),
        }

    return (
        tf.data.Dataset.from_tensor_slices((rows.users, rows.items))
        .shuffle(min(len(rows), _SHUFFLE_BUFFER), seed=config.seed)
        .batch(config.training.batch_size)
        .map(features)
        .prefetch(tf.data.AUTOTUNE)
    )
