"""Trains the two towers on the training rows of a data set."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from trainer.config import Config, TrainingConfig
from trainer.data import features, histories, split
from trainer.data.histories import Histories
from trainer.data.types import Dataset, Interactions, Split
from trainer.errors import ConfigError, DataError
from trainer.evaluation import dot_product_scorer, evaluate
from trainer.model.towers.candidate import CandidateTower, ItemTowers
from trainer.model.towers.embedding import embed_all
from trainer.model.towers.query import QueryTower
from trainer.model.training import defaults
from trainer.model.training.batches import DTYPES, Batches
from trainer.model.training.callbacks import EarlyStopping, ProgressBar, StopUnless
from trainer.model.training.trained import LearningCurve, TrainedModel
from trainer.model.two_tower import TwoTowerModel

_PREFETCHED_STEPS = 4
# Limits validation time: every epoch ranks the catalogue for each validation user.
_MAX_VALIDATION_USERS = 5_000


def train(
    dataset: Dataset,
    rows: Interactions,
    config: Config,
    console: Console,
    log_dir: Path | None = None,
    should_continue: Callable[[float], bool] | None = None,
) -> TrainedModel:
    """Train a model on ``rows``. Users without training rows stay unknown to the model.

    If rows are held out for validation, training may stop early, and is then repeated on all rows
    for the best number of epochs, unless ``training.refit`` is false.

    Args:
        dataset: the users, the items and their features; its interactions are not used.
        rows: the training rows.
        config: the configuration of the run.
        console: where progress is shown.
        log_dir: the directory for TensorBoard logs; None writes no logs.
        should_continue: called with the loss of every epoch; training ends if it returns False.

    Raises:
        DataError: the configuration names columns that do not exist, queries would be empty, or no
            user has two items to learn from.
        ConfigError: training diverges with this configuration.
    """
    started = time.perf_counter()
    config = defaults.resolve(config, dataset, rows)
    settings = config.training
    parts = _split_off_validation(rows, config, console) if settings.validation_share else None
    training = _Training(dataset, parts.train if parts else rows, config, console)
    validation_rows = parts.test if parts else None
    curve = training.fit(settings.epochs, validation_rows, log_dir, should_continue)
    if parts and settings.refit:
        console.print(f"Training again on all rows, for {curve.best_epoch} epochs")
        # In a shared directory, TensorBoard would draw both training runs as one line.
        refit_log_dir = log_dir / "refit" if log_dir else None
        training = _Training(dataset, rows, config, console)
        training.fit(curve.best_epoch, None, refit_log_dir, should_continue)
    # Queries are computed from all training rows, including validation rows.
    known_histories = histories.from_rows(rows, len(dataset.user_ids))
    return training.trained(known_histories, curve, seconds=time.perf_counter() - started)


def _split_off_validation(rows: Interactions, config: Config, console: Console) -> Split | None:
    """Return the rows to learn from as ``train``, and rows of at most 5,000 users as ``test``.

    The rows are split by the same method as the test rows. If there are too few rows, print a
    message and return None.
    """
    share = config.training.validation_share
    try:
        # The seed of the test split would repeat its random order, so use a different seed.
        parts = split.split(rows, config.split.kind, share, config.seed + 1)
        test = parts.test.of_sampled_users(_MAX_VALIDATION_USERS, config.seed)
        return replace(parts, test=test)
    except DataError as error:
        console.print(f"Training for all epochs without early stopping, because {error}")
        return None


class _Training:
    """Trains a two-tower model from its initial weights."""

    def __init__(
        self, dataset: Dataset, rows: Interactions, config: Config, console: Console
    ) -> None:
        tf.keras.utils.set_random_seed(config.seed)
        self._rows, self._config, self._console = rows, config, console
        self._user_count, self._item_count = len(dataset.user_ids), len(dataset.item_ids)
        self._known_users = np.bincount(rows.users, minlength=self._user_count) > 0
        self._known_items = np.bincount(rows.items, minlength=self._item_count) > 0
        self._histories = histories.from_rows(_standardized(rows), self._user_count)
        model = config.model
        self._encoder = features.fit(dataset.item_features, model.item_features, "items")
        item_features = self._encoder.encode(_table(dataset.item_features, self._item_count))
        user_features = features.fit(dataset.user_features, model.user_features, "users").encode(
            _table(dataset.user_features, self._user_count)
        )
        # Without histories and features, only users with training rows can be embedded.
        self._embeds_any_user = model.history_length > 0 or user_features.shape[1] > 0
        if not (self._embeds_any_user or model.user_id):
            raise DataError(
                "queries would be empty: model.history_length is 0, model.user_id is false, and "
                "users have no features; set at least one of them"
            )
        query_tower = QueryTower(
            item_features,
            self._known_items,
            user_features,
            self._known_users,
            model,
            seed=config.seed,
        )
        candidate_tower = CandidateTower(
            item_features, self._known_items, model, seed=config.seed + 2
        )
        self._model = TwoTowerModel(
            query_tower,
            candidate_tower,
            config.training,
            items=self._item_count,
            rated=rows.ratings is not None,
        )
        self._target_count = 0
        self._fit_seconds = 0.0

    def fit(
        self,
        epochs: int,
        validation_rows: Interactions | None,
        log_dir: Path | None,
        should_continue: Callable[[float], bool] | None,
    ) -> LearningCurve:
        """Train for ``epochs`` epochs, unless early stopping or ``should_continue`` ends it."""
        config = self._config.training
        batches = Batches(
            self._histories,
            self._item_count,
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
        validation: list[float] = []
        if validation_rows is not None:
            early_stopping = EarlyStopping(
                partial(self._validate, validation_rows), config.patience
            )
            validation = early_stopping.metric_by_epoch
            callbacks.append(early_stopping)
        if should_continue is not None:
            callbacks.append(StopUnless(should_continue))
        if log_dir is not None:
            callbacks.append(tf.keras.callbacks.TensorBoard(str(log_dir)))
        started = time.perf_counter()
        with ProgressBar(self._console, epochs, len(batches)) as bar:
            history = self._model.fit(
                self._tensors(batches), epochs=epochs, callbacks=[*callbacks, bar], verbose=0
            )
        self._fit_seconds = time.perf_counter() - started
        losses = [float(loss) for loss in history.history["total_loss"]]
        if not np.isfinite(losses).all():
            raise ConfigError(
                "training diverged: the loss is not a finite number; lower "
                f"training.learning_rate, which is {config.learning_rate:g}"
            )
        return LearningCurve(losses, validation)

    def trained(
        self, known_histories: Histories, curve: LearningCurve, seconds: float
    ) -> TrainedModel:
        """Return the trained model, which computes queries from ``known_histories``."""
        known_users = known_histories.lengths > 0 if self._embeds_any_user else self._known_users
        return TrainedModel(
            query=self._model.query_tower.trained_weights(),
            candidate_vectors=self._candidate_vectors(),
            histories=known_histories,
            known_users=known_users,
            items=ItemTowers(
                self._encoder,
                self._known_items,
                self._model.candidate_tower.trained_weights(),
                self._model.query_tower.item_weights(),
                self._config.model,
            ),
            config=self._config,
            curve=curve,
            seconds=seconds,
            interactions_per_second=self._target_count / max(self._fit_seconds, 1e-9),
        )

    def _candidate_vectors(self) -> NDArray[np.float32]:
        return embed_all(self._model.candidate_tower, self._item_count)

    def _validate(self, rows: Interactions) -> float:
        """Return the unseen_items.top_100 of the current weights on ``rows``."""
        query = self._model.query_tower.trained_weights()
        scorer = dot_product_scorer(
            query.embed(self._histories, np.arange(self._user_count)),
            self._candidate_vectors(),
            self._known_users,
            np.bincount(self._rows.items, minlength=self._item_count).astype(np.float32),
        )
        return evaluate(scorer, self._rows, rows).unseen_items.top_100

    def _tensors(self, batches: Batches) -> tf.data.Dataset:
        """Return the steps as a tf.data.Dataset that prepares steps while the model trains."""

        def steps() -> Iterator[dict[str, NDArray[np.generic]]]:
            for step in batches.epoch():
                self._target_count += len(step.target_rows)
                yield step.arrays()

        signature = {name: tf.TensorSpec([None], dtype) for name, dtype in DTYPES.items()}
        data = tf.data.Dataset.from_generator(steps, output_signature=signature)
        return data.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(
            _PREFETCHED_STEPS
        )


def _optimizer(config: TrainingConfig, steps: int) -> tf.keras.optimizers.Optimizer:
    optimizers = {"adagrad": tf.keras.optimizers.Adagrad, "adam": tf.keras.optimizers.Adam}
    rate = config.learning_rate
    if config.learning_rate_decay:
        rate = tf.keras.optimizers.schedules.CosineDecay(rate, steps)
    return optimizers[config.optimizer](rate)


def _standardized(rows: Interactions) -> Interactions:
    """Shift and scale ratings to mean 0 and variance 1, so that the rating scale has no effect."""
    if rows.ratings is None:
        return rows
    spread = float(rows.ratings.std())
    ratings = (rows.ratings - rows.ratings.mean()) / (spread if spread > 0 else 1.0)
    return replace(rows, ratings=ratings.astype(np.float32))


def _table(table: pd.DataFrame | None, rows: int) -> pd.DataFrame:
    """Return ``table``, or a table of ``rows`` rows without columns if it is None."""
    return pd.DataFrame(index=range(rows)) if table is None else table
