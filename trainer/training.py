"""Trains the two towers on the training rows of a data set."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

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
    dataset: Dataset,
    rows: Interactions,
    config: Config,
    console: Console,
    log_dir: Path | None = None,
) -> TrainedModel:
    """Train on ``rows``; users without one of them stay unknown to the model.

    Args:
        dataset: gives the ids; its own interactions are not looked at.
        rows: the training rows, N of them.
        config: the run's configuration.
        console: shows the progress.
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
    callbacks: list[tf.keras.callbacks.Callback] = [_ProgressBar(console)]
    if log_dir is not None:
        callbacks.append(tf.keras.callbacks.TensorBoard(str(log_dir)))
    started = time.perf_counter()
    history = model.fit(
        _batches(dataset, rows, config),
        epochs=config.training.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    seconds = time.perf_counter() - started
    return TrainedModel(
        query_tower=query_tower,
        candidate_tower=candidate_tower,
        losses=[float(loss) for loss in history.history["total_loss"]],
        seconds=seconds,
        interactions_per_second=len(rows) * config.training.epochs / seconds,
    )


class _ProgressBar(tf.keras.callbacks.Callback):
    """One bar for the whole training: the epoch, its last loss, the time that remains."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("training", total=None)

    def on_train_begin(self, logs: object = None) -> None:  # noqa: ARG002
        self._bar.start()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        epochs = self.params["epochs"]
        loss = (logs or {}).get("total_loss", float("nan"))
        self._bar.update(
            self._task,
            # Known exactly only now; Keras counts the steps of the first epoch.
            total=self.params["steps"] and self.params["steps"] * epochs,
            description=f"epoch {epoch + 1}/{epochs}, loss {loss:,.1f}",
        )

    def on_train_end(self, logs: object = None) -> None:  # noqa: ARG002
        self._bar.stop()


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
