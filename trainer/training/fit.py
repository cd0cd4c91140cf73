"""Trains the two towers on the training rows of a data set."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from trainer.config import Config, ConfigError, TrainingConfig
from trainer.data import features, histories
from trainer.data.features import FeatureEncoder
from trainer.data.histories import Histories
from trainer.data.types import DataError, Dataset, Interactions
from trainer.evaluation import dot_product_scorer, evaluate
from trainer.towers.candidate import CandidateTower
from trainer.towers.embedding import embed_all
from trainer.towers.query import QueryTower, QueryWeights
from trainer.training import validation
from trainer.training.batches import DTYPES, Batches
from trainer.training.model import TwoTowerModel
from trainer.training.progress import ProgressBar

#: Up to this many items the softmax runs over all of them, unless configured otherwise.
FULL_SOFTMAX_UP_TO = 20_000

_PREFETCHED_STEPS = 4


@dataclass(frozen=True)
class LearningCurve:
    """How training went, by epoch.

    Attributes:
        loss: of the last step of each epoch.
        validation: ``unseen_items`` top-100 on the validation rows; empty without these.
    """

    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """From 1; the last one where there was no validation."""
        return int(np.argmax(self.validation)) + 1 if self.validation else len(self.loss)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What training leaves: the towers as arrays, and how it went.

    Attributes:
        query: the query tower.
        candidate_vectors: float32 [items, D].
        histories: of all users, what the queries of known users are made of.
        known_users: bool [users], who has training rows.
        item_features: how columns of items were read.
        user_features: how columns of users were read.
        curve: by epoch.
        seconds: of wall time, the second training included.
        interactions_per_second: targets that were scored against the candidates.
    """

    query: QueryWeights
    candidate_vectors: NDArray[np.float32]
    histories: Histories
    known_users: NDArray[np.bool_]
    item_features: FeatureEncoder
    user_features: FeatureEncoder
    curve: LearningCurve
    seconds: float
    interactions_per_second: float

    def query_vectors(self) -> NDArray[np.float32]:
        """Of all users, float32 [users, D]."""
        return self.query.embed(self.histories, np.arange(len(self.known_users)))


def train(
    dataset: Dataset,
    rows: Interactions,
    config: Config,
    console: Console,
    log_dir: Path | None = None,
) -> TrainedModel:
    """Train on ``rows``; users without one of them stay unknown to the model.

    Where a share is held out for validation, training ends when that gets no better, and is then
    repeated on all rows for the best number of epochs, unless configured otherwise.

    Args:
        dataset: gives users, items and their features; its own interactions are not looked at.
        rows: the training rows, N of them.
        config: the run's configuration.
        console: shows the progress.
        log_dir: where TensorBoard's logs go; none are written without it.

    Raises:
        DataError: the configuration names columns that are not there; there is nothing to learn
            from, or queries would be made of nothing.
        ConfigError: the configuration makes training diverge.
    """
    started = time.perf_counter()
    settings = config.training
    parts = validation.split_off(rows, config, console) if settings.validation_share else None
    if parts is None:
        run = _Run(dataset, rows, None, config, console, log_dir).fit(settings.epochs)
    else:
        run = _Run(dataset, parts.train, parts.test, config, console, log_dir)
        run.fit(settings.epochs)
        if settings.refit:
            curve = run.curve
            console.print(f"Training again on all rows, for {curve.best_epoch} epochs")
            # TensorBoard would draw two runs in one directory as one line.
            again = None if log_dir is None else log_dir / "refit"
            run = _Run(dataset, rows, None, config, console, again).fit(curve.best_epoch)
            run.curve = curve
    # Whatever the vectors were learnt from, queries are made of all that is known.
    return replace(
        run.trained(histories.of(rows, len(dataset.user_ids))),
        seconds=time.perf_counter() - started,
    )


class _Run:
    """One training from the start, on some rows."""

    def __init__(
        self,
        dataset: Dataset,
        rows: Interactions,
        validation: Interactions | None,
        config: Config,
        console: Console,
        log_dir: Path | None,
    ) -> None:
        tf.keras.utils.set_random_seed(config.seed)
        self._config, self._console, self._log_dir = config, console, log_dir
        self._rows, self._validation = rows, validation
        self._counts = len(dataset.user_ids), len(dataset.item_ids)
        self._item_features = features.fit(
            dataset.item_features, config.model.item_features, "items"
        )
        self._user_features = features.fit(
            dataset.user_features, config.model.user_features, "users"
        )
        users, items = self._counts
        item_table = self._item_features.encode(_table(dataset.item_features, items))
        user_table = self._user_features.encode(_table(dataset.user_features, users))
        if not (config.model.history_length or config.model.user_id or user_table.shape[1]):
            raise DataError(
                "queries would be made of nothing: model.history_length is 0, model.user_id is "
                "false, and users have no features"
            )
        known_items, self._known_users = _seen(rows.items, items), _seen(rows.users, users)
        self._objective = objective(config.training, items)
        self._histories = histories.of(rows, users)
        self._model = TwoTowerModel(
            QueryTower(
                *(item_table, known_items, user_table, self._known_users),
                config.model,
                seed=config.seed,
            ),
            CandidateTower(item_table, known_items, config.model, seed=config.seed + 2),
            config.training,
            objective=self._objective,
        )
        self._targets = 0
        self._seconds = 0.0
        self.curve = LearningCurve()

    def fit(self, epochs: int) -> "_Run":
        """Train for so many epochs, or until the validation gets no better."""
        config = self._config.training
        batches = Batches(
            self._histories,
            self._counts[1],
            config,
            objective=self._objective,
            future=_future(self._config, self._rows),
            history_length=self._config.model.history_length,
            seed=self._config.seed,
        )
        if not len(batches):
            raise DataError(
                "nothing to learn from: no user has two different items to train on "
                "(training.objective=in_batch learns from one)"
            )
        self._model.compile(optimizer=_optimizer(config, len(batches) * epochs))
        callbacks: list[tf.keras.callbacks.Callback] = []
        if self._validation is not None:
            callbacks.append(_Validation(self))
        callbacks.append(ProgressBar(self._console, epochs, len(batches)))
        if self._log_dir is not None:
            callbacks.append(tf.keras.callbacks.TensorBoard(str(self._log_dir)))
        started = time.perf_counter()
        history = self._model.fit(self._fed(batches), epochs=epochs, callbacks=callbacks, verbose=0)
        self._seconds += time.perf_counter() - started
        self.curve.loss.extend(float(loss) for loss in history.history["total_loss"])
        if not np.isfinite(self.curve.loss).all():
            raise ConfigError(
                f"training diverged with training.learning_rate {config.learning_rate:g}: "
                f"the loss is no longer a number; lower it"
            )
        return self

    def trained(self, known: Histories | None = None) -> TrainedModel:
        """The model as it is now, with these histories or those that it learns from."""
        return TrainedModel(
            query=self._model.query_tower.trained_weights(),
            candidate_vectors=embed_all(self._model.candidate_tower, self._counts[1]),
            histories=known or self._histories,
            known_users=self._known_users if known is None else known.lengths > 0,
            item_features=self._item_features,
            user_features=self._user_features,
            curve=self.curve,
            seconds=self._seconds,
            interactions_per_second=self._targets / max(self._seconds, 1e-9),
        )

    def validation(self) -> float:
        """``unseen_items`` top-100 on the validation rows."""
        assert self._validation is not None
        model = self.trained()
        scorer = dot_product_scorer(
            model.query_vectors(),
            model.candidate_vectors,
            model.known_users,
            np.bincount(self._rows.items, minlength=self._counts[1]).astype(np.float32),
        )
        return evaluate(scorer, self._rows, self._validation).unseen_items.top_100

    def _fed(self, batches: Batches) -> tf.data.Dataset:
        """The steps as TensorFlow wants them, made while the last one is computed."""

        def steps() -> object:
            for step in batches.epoch():
                self._targets += len(step.target_rows)
                yield step.arrays()

        signature = {name: tf.TensorSpec([None], dtype) for name, dtype in DTYPES.items()}
        data = tf.data.Dataset.from_generator(steps, output_signature=signature)
        return data.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(
            _PREFETCHED_STEPS
        )


class _Validation(tf.keras.callbacks.Callback):
    """Ends the training when the validation gets no better, and goes back to the best epoch."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self._run = run
        self._best: list[NDArray[np.float32]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        curve = self._run.curve
        curve.validation.append(self._run.validation())
        if logs is not None:
            logs["validation"] = curve.validation[-1]
        if curve.best_epoch == epoch + 1:
            self._best = self.model.get_weights()
        elif epoch + 1 - curve.best_epoch >= self._run._config.training.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: object = None) -> None:  # noqa: ARG002
        self.model.set_weights(self._best)


def objective(config: TrainingConfig, items: int) -> str:
    """The objective that is used for a catalogue of so many items."""
    if config.objective != "auto":
        return config.objective
    return "full_softmax" if items <= FULL_SOFTMAX_UP_TO else "sampled_softmax"


def _future(config: Config, rows: Interactions) -> bool:
    if config.training.targets != "auto":
        return config.training.targets == "future"
    return config.split.kind != "random" and rows.timestamps is not None


def _optimizer(config: TrainingConfig, steps: int) -> tf.keras.optimizers.Optimizer:
    kind = {"adagrad": tf.keras.optimizers.Adagrad, "adam": tf.keras.optimizers.Adam}
    rate = config.learning_rate
    if config.learning_rate_decay:
        rate = tf.keras.optimizers.schedules.CosineDecay(rate, steps)
    return kind[config.optimizer](rate)


def _seen(positions: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    return np.bincount(positions, minlength=count) > 0


def _table(table: pd.DataFrame | None, rows: int) -> pd.DataFrame:
    return pd.DataFrame(index=range(rows)) if table is None else table
