"""Trains the two towers on the training rows of a data set."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from trainer.config import Config, ConfigError, TrainingConfig
from trainer.data import features, histories
from trainer.data.histories import Histories
from trainer.data.types import DataError, Dataset, Interactions
from trainer.evaluation import evaluate
from trainer.model.towers.candidate import CandidateTower
from trainer.model.towers.embedding import embed_all
from trainer.model.towers.item_encoder import ItemTowers
from trainer.model.towers.query import QueryTower
from trainer.model.training import defaults, validation
from trainer.model.training.batches import DTYPES, Batches
from trainer.model.training.progress import ProgressBar
from trainer.model.training.stopping import Asked, BestEpoch
from trainer.model.training.trained import LearningCurve, TrainedModel
from trainer.model.two_tower import TwoTowerModel

_PREFETCHED_STEPS = 4


def train(
    dataset: Dataset,
    rows: Interactions,
    config: Config,
    console: Console,
    log_dir: Path | None = None,
    go_on: Callable[[float], bool] | None = None,
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
        go_on: asked after every epoch with its loss; training ends there when it says no.

    Raises:
        DataError: the configuration names columns that are not there; there is nothing to learn
            from, or queries would be made of nothing.
        ConfigError: the configuration makes training diverge.
    """
    started = time.perf_counter()
    config = defaults.resolve(
        config,
        users=len(dataset.user_ids),
        items=len(dataset.item_ids),
        timestamps=rows.timestamps is not None,
    )
    settings = config.training
    parts = validation.split_off(rows, config, console) if settings.validation_share else None
    if parts is None:
        run = _Run(dataset, rows, None, config, console, log_dir, go_on).fit(settings.epochs)
    else:
        run = _Run(dataset, parts.train, parts.test, config, console, log_dir, go_on)
        run.fit(settings.epochs)
        if settings.refit:
            curve = run.curve
            console.print(f"Training again on all rows, for {curve.best_epoch} epochs")
            # TensorBoard would draw two runs in one directory as one line.
            again = None if log_dir is None else log_dir / "refit"
            run = _Run(dataset, rows, None, config, console, again, go_on).fit(curve.best_epoch)
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
        watched: Interactions | None,
        config: Config,
        console: Console,
        log_dir: Path | None,
        go_on: Callable[[float], bool] | None,
    ) -> None:
        tf.keras.utils.set_random_seed(config.seed)
        self._config, self._console, self._log_dir = config, console, log_dir
        self._go_on = go_on
        self._rows, self._validation = rows, watched
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
        self._known_items, self._known_users = _seen(rows.items, items), _seen(rows.users, users)
        self._histories = histories.of(_standardised(rows), users)
        self._model = TwoTowerModel(
            QueryTower(
                *(item_table, self._known_items, user_table, self._known_users),
                config.model,
                seed=config.seed,
            ),
            CandidateTower(item_table, self._known_items, config.model, seed=config.seed + 2),
            config.training,
            items=items,
            rated=rows.ratings is not None,
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
            callbacks.append(BestEpoch(self.validation, self.curve.validation, config.patience))
        if self._go_on is not None:
            callbacks.append(Asked(self._go_on))
        if self._log_dir is not None:
            callbacks.append(tf.keras.callbacks.TensorBoard(str(self._log_dir)))
        started = time.perf_counter()
        with ProgressBar(self._console, epochs, len(batches)) as bar:
            history = self._model.fit(
                self._fed(batches), epochs=epochs, callbacks=[*callbacks, bar], verbose=0
            )
        self._seconds += time.perf_counter() - started
        self.curve.loss.extend(float(loss) for loss in history.history["total_loss"])
        if not np.isfinite(self.curve.loss).all():
            raise ConfigError(
                f"training diverged with training.learning_rate {config.learning_rate:g}: "
                f"the loss is no longer a number; lower it"
            )
        return self

    def trained(self, known: Histories | None = None) -> TrainedModel:
        """The model as it is now, with these histories or those that it learns from.

        Where neither histories nor features make queries, a user who is in ``known`` alone has
        none, and stays unknown.
        """
        model = self._config.model
        has_query = model.history_length > 0 or self._user_features.size > 0
        return TrainedModel(
            query=self._model.query_tower.trained_weights(),
            candidate_vectors=embed_all(self._model.candidate_tower, self._counts[1]),
            histories=known or self._histories,
            known_users=known.lengths > 0 if known and has_query else self._known_users,
            items=ItemTowers(
                self._item_features,
                self._known_items,
                self._model.candidate_tower.trained_weights(),
                self._model.query_tower.item_weights(),
                model,
            ),
            user_features=self._user_features,
            config=self._config,
            curve=self.curve,
            seconds=self._seconds,
            interactions_per_second=self._targets / max(self._seconds, 1e-9),
        )

    def validation(self) -> float:
        """``unseen_items`` top-100 on the validation rows."""
        assert self._validation is not None
        popularity = np.bincount(self._rows.items, minlength=self._counts[1]).astype(np.float32)
        scorer = self.trained().scorer(popularity)
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


def _optimizer(config: TrainingConfig, steps: int) -> tf.keras.optimizers.Optimizer:
    kind = {"adagrad": tf.keras.optimizers.Adagrad, "adam": tf.keras.optimizers.Adam}
    rate = config.learning_rate
    if config.learning_rate_decay:
        rate = tf.keras.optimizers.schedules.CosineDecay(rate, steps)
    return kind[config.optimizer](rate)


def _standardised(rows: Interactions) -> Interactions:
    """With ratings of mean 0 and variance 1, so that their loss does not depend on the scale."""
    if rows.ratings is None:
        return rows
    spread = float(rows.ratings.std())
    ratings = (rows.ratings - rows.ratings.mean()) / (spread if spread > 0 else 1.0)
    return replace(rows, ratings=ratings.astype(np.float32))


def _seen(positions: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    return np.bincount(positions, minlength=count) > 0


def _table(table: pd.DataFrame | None, rows: int) -> pd.DataFrame:
    return pd.DataFrame(index=range(rows)) if table is None else table
