"""Trains the two towers on the training rows of a data set."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console

from trainer.config import Config, TrainingConfig
from trainer.data import features, histories, split
from trainer.data.histories import Histories
from trainer.data.types import Dataset, Interactions, Split
from trainer.errors import ConfigError, DataError
from trainer.evaluation import evaluate
from trainer.model.towers.candidate import CandidateTower, ItemTowers
from trainer.model.towers.embedding import embed_all
from trainer.model.towers.query import QueryTower
from trainer.model.training import defaults
from trainer.model.training.batches import DTYPES, Batches
from trainer.model.training.callbacks import BestEpoch, ProgressBar, StopOnRequest
from trainer.model.training.trained import LearningCurve, TrainedModel
from trainer.model.two_tower import TwoTowerModel

_PREFETCHED_STEPS = 4
# Bounds the time of validation, which ranks the catalogue for every user in every epoch.
_MAX_VALIDATION_USERS = 5_000


def train(
    dataset: Dataset,
    rows: Interactions,
    config: Config,
    console: Console,
    log_dir: Path | None = None,
    should_continue: Callable[[float], bool] | None = None,
) -> TrainedModel:
    """Train on ``rows``; users without training rows stay unknown to the model.

    With a validation share, training stops early, and is then repeated on all rows for the best
    number of epochs unless ``training.refit`` is false.

    Args:
        dataset: the users, the items and their features; its interactions are not used.
        rows: the training rows.
        config: the configuration of the run.
        console: shows the progress.
        log_dir: directory for TensorBoard's logs; None writes no logs.
        should_continue: called with the loss of every epoch; training ends when it returns False.

    Raises:
        DataError: the configuration names columns that do not exist, no user has two items to learn
            from, or queries would be empty.
        ConfigError: training diverges with this configuration.
    """
    started = time.perf_counter()
    config = defaults.resolve(config, dataset, rows)
    settings = config.training
    parts = _split_off_validation(rows, config, console) if settings.validation_share else None
    if parts is None:
        run = _Training(dataset, rows, None, config, console, log_dir, should_continue).fit(
            settings.epochs
        )
    else:
        run = _Training(dataset, parts.train, parts.test, config, console, log_dir, should_continue)
        run.fit(settings.epochs)
        if settings.refit:
            curve = run.curve
            console.print(f"Training again on all rows, for {curve.best_epoch} epochs")
            # A separate directory, because TensorBoard would draw both trainings as one line.
            refit_log_dir = None if log_dir is None else log_dir / "refit"
            run = _Training(
                dataset, rows, None, config, console, refit_log_dir, should_continue
            ).fit(curve.best_epoch)
            run.curve = curve
    # Queries are computed from all training rows, including validation rows.
    trained = run.trained(histories.from_rows(rows, len(dataset.user_ids)))
    return replace(trained, seconds=time.perf_counter() - started)


def _split_off_validation(rows: Interactions, config: Config, console: Console) -> Split | None:
    """Return the rows to learn from, and validation rows of at most 5,000 users as ``test``.

    The rows are split in the same way as the test rows. If there are too few rows for a split,
    a message is printed to ``console`` and None is returned: training is still possible.
    """
    share = config.training.validation_share
    try:
        # This seed differs from that of the test split, which would repeat the same random order.
        parts = split.split(rows, config.split.kind, share, config.seed + 1)
        test = parts.test.of_sampled_users(_MAX_VALIDATION_USERS, config.seed)
        return replace(parts, test=test)
    except DataError as error:
        console.print(f"Training for all epochs without early stopping, because {error}")
        return None


class _Training:
    """One training from the initial weights."""

    def __init__(
        self,
        dataset: Dataset,
        rows: Interactions,
        validation_rows: Interactions | None,
        config: Config,
        console: Console,
        log_dir: Path | None,
        should_continue: Callable[[float], bool] | None,
    ) -> None:
        tf.keras.utils.set_random_seed(config.seed)
        self._config, self._console, self._log_dir = config, console, log_dir
        self._should_continue = should_continue
        self._rows, self._validation_rows = rows, validation_rows
        self._counts = len(dataset.user_ids), len(dataset.item_ids)
        model = config.model
        self._item_features = features.fit(dataset.item_features, model.item_features, "items")
        self._user_features = features.fit(dataset.user_features, model.user_features, "users")
        users, items = self._counts
        item_table = self._item_features.encode(_table(dataset.item_features, items))
        user_table = self._user_features.encode(_table(dataset.user_features, users))
        if not (model.history_length or model.user_id or user_table.shape[1]):
            raise DataError(
                "queries would be empty: model.history_length is 0, model.user_id is false, and "
                "users have no features; set at least one of them"
            )
        self._known_items = np.bincount(rows.items, minlength=items) > 0
        self._known_users = np.bincount(rows.users, minlength=users) > 0
        self._histories = histories.from_rows(_standardized(rows), users)
        self._model = TwoTowerModel(
            QueryTower(
                *(item_table, self._known_items, user_table, self._known_users, model),
                seed=config.seed,
            ),
            CandidateTower(item_table, self._known_items, model, seed=config.seed + 2),
            config.training,
            items=items,
            rated=rows.ratings is not None,
        )
        self._targets = 0
        self._seconds = 0.0
        self.curve = LearningCurve()

    def fit(self, epochs: int) -> "_Training":
        """Train for at most ``epochs`` epochs."""
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
                "there is nothing to learn from: no user has two different items in the training "
                "rows; use more data, or set training.objective=in_batch, which needs only one"
            )
        self._model.compile(optimizer=_optimizer(config, len(batches) * epochs))
        callbacks: list[tf.keras.callbacks.Callback] = []
        if self._validation_rows is not None:
            callbacks.append(BestEpoch(self._validate, self.curve.validation, config.patience))
        if self._should_continue is not None:
            callbacks.append(StopOnRequest(self._should_continue))
        if self._log_dir is not None:
            callbacks.append(tf.keras.callbacks.TensorBoard(str(self._log_dir)))
        started = time.perf_counter()
        with ProgressBar(self._console, epochs, len(batches)) as bar:
            history = self._model.fit(
                self._tensors(batches), epochs=epochs, callbacks=[*callbacks, bar], verbose=0
            )
        self._seconds += time.perf_counter() - started
        self.curve.loss.extend(float(loss) for loss in history.history["total_loss"])
        if not np.isfinite(self.curve.loss).all():
            raise ConfigError(
                "training diverged: the loss is not a finite number; lower "
                f"training.learning_rate, which is {config.learning_rate:g}"
            )
        return self

    def trained(self, known_histories: Histories | None = None) -> TrainedModel:
        """Return the current model, with ``known_histories`` or the histories that it learns from.

        If queries depend on neither histories nor features, a user without training rows stays
        unknown even if ``known_histories`` has a history.
        """
        model = self._config.model
        has_query = model.history_length > 0 or self._user_features.size > 0
        return TrainedModel(
            query=self._model.query_tower.trained_weights(),
            candidate_vectors=embed_all(self._model.candidate_tower, self._counts[1]),
            histories=known_histories or self._histories,
            known_users=known_histories.lengths > 0
            if known_histories and has_query
            else self._known_users,
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

    def _validate(self) -> float:
        """Return unseen_items.top_100 on the validation rows."""
        assert self._validation_rows is not None
        popularity = np.bincount(self._rows.items, minlength=self._counts[1]).astype(np.float32)
        scorer = self.trained().scorer(popularity)
        return evaluate(scorer, self._rows, self._validation_rows).unseen_items.top_100

    def _tensors(self, batches: Batches) -> tf.data.Dataset:
        """Return the steps as a tf.data.Dataset, which prepares them while the model is fitted."""

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


def _standardized(rows: Interactions) -> Interactions:
    """Scale ratings to mean 0 and variance 1, so that the loss does not depend on their scale."""
    if rows.ratings is None:
        return rows
    spread = float(rows.ratings.std())
    ratings = (rows.ratings - rows.ratings.mean()) / (spread if spread > 0 else 1.0)
    return replace(rows, ratings=ratings.astype(np.float32))


def _table(table: pd.DataFrame | None, rows: int) -> pd.DataFrame:
    return pd.DataFrame(index=range(rows)) if table is None else table
