"""Runs one search: splits the data, searches, and writes a file for ``run --config``."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import tensorflow as tf
from rich.console import Console

from trainer import config
from trainer.data import split
from trainer.data.types import Dataset, Split
from trainer.errors import ConfigError
from trainer.evaluation import Quality, baselines, evaluate
from trainer.model import training
from trainer.model.training.defaults import resolve
from trainer.tuning import METRICS, search, space, terminal
from trainer.tuning.search import HasTimeLeft, TrialFailed

_VALIDATION_SHARE = 0.1


def tune(
    dataset: Dataset,
    settings: config.Config,
    console: Console,
    *,
    metric: str,
    budget_s: float,
    max_trials: int | None,
    output: Path,
) -> config.Config:
    """Search for better settings, write the best configuration to a file and return it.

    The rows are split as ``run`` splits them, and the test rows are not used. To evaluate trials,
    part of the training rows is held out in the same way. Trials do not stop early, because the
    number of epochs is one of the searched settings. The file therefore sets
    ``training.validation_share`` to 0.

    Args:
        dataset: the interactions and features.
        settings: the starting configuration.
        console: where progress is shown.
        metric: the name in ``METRICS`` of the metric to maximize.
        budget_s: the time budget in seconds. No trial or epoch starts after it has run out.
        max_trials: the maximum number of trials; None for no limit.
        output: the file for the best configuration, written after every trial that finishes.

    Raises:
        DataError: the data cannot be split, or lacks columns that the configuration names.
        TuningError: no trial finished.
        OSError: the file cannot be written.
    """
    # Create the directory before the search, so that an error is reported immediately.
    output.parent.mkdir(parents=True, exist_ok=True)
    dataset, parts = _without_test_rows(dataset, settings)
    console.print(
        f"Training on {len(parts.train):,} interactions of {dataset.name}, "
        f"evaluating trials on {len(parts.test):,} validation rows",
        markup=False,
        soft_wrap=True,
    )
    base = config.change(settings, "training.validation_share", 0.0)
    base = resolve(base, dataset, parts.train)
    columns = () if dataset.item_features is None else dataset.item_features.columns
    uses_features = len(columns) > 0 and len(base.model.item_features) > 0
    bounds = space.distributions(base, item_features=uses_features)
    objective = Objective(dataset, parts, METRICS[metric])
    started = time.monotonic()

    def run_trial(parameters: Mapping[str, Any], has_time_left: HasTimeLeft) -> float:
        return objective(space.with_parameters(base, parameters), has_time_left)

    def best(study: optuna.Study) -> config.Config:
        return space.with_parameters(base, search.finished_trials(study)[0].params)

    def after_trial(study: optuna.Study) -> None:
        terminal.show_trial(status, study)
        # Write after every trial, so that killing the process does not lose the best result.
        if search.finished_trials(study):
            comments = _comments(dataset, metric, study, time.monotonic() - started)
            config.write(output, best(study), comments)

    console.print(f"The search ends at {datetime.now() + timedelta(seconds=budget_s):%H:%M:%S}")
    with console.status("trial 1") as status:
        study = search.search(
            run_trial,
            bounds,
            space.starting_point(base, bounds),
            budget_s=budget_s,
            max_trials=max_trials,
            seed=settings.seed,
            after_trial=after_trial,
        )
    terminal.show_best_trials(console, study, metric)
    return best(study)


def _without_test_rows(dataset: Dataset, settings: config.Config) -> tuple[Dataset, Split]:
    """Return the data set with only the rows to train on, and the split to evaluate trials on."""
    kind, share = settings.split.kind, settings.split.test_share
    train = split.split(dataset.interactions, kind, share, settings.seed).train
    # Training uses seed + 1 to hold out rows for early stopping.
    parts = split.split(train, kind, _VALIDATION_SHARE, settings.seed + 2)
    return replace(dataset, interactions=parts.train), parts


@dataclass(frozen=True, eq=False)
class Objective:
    """Trains with a configuration and returns a metric, always on the same validation rows.

    Attributes:
        dataset: the users, the items and their features.
        parts: the training rows, and the validation rows as ``test``.
        metric: returns the metric to maximize, given all metrics of a model.
    """

    dataset: Dataset
    parts: Split
    metric: Callable[[Quality], float]

    def __call__(self, settings: config.Config, has_time_left: HasTimeLeft) -> float:
        """Train for all epochs of ``settings``, without validation, and return the metric.

        Training stops if ``has_time_left``, which is called after every epoch, returns False.

        Raises:
            TrialFailed: the time budget ends before the last epoch, memory runs out, or training
                diverges.
            DataError: the configuration names columns that do not exist.
        """
        try:
            model = training.train(
                self.dataset,
                self.parts.train,
                settings,
                Console(quiet=True),
                # Training never recovers from a loss that is not finite.
                should_continue=lambda loss: math.isfinite(loss) and has_time_left(),
            )
            finished, epochs = len(model.curve.loss), settings.training.epochs
            if finished < epochs:
                raise TrialFailed(f"the time budget ended after {finished} of {epochs} epochs")
            popularity = baselines.popularity(self.parts.train, len(self.dataset.item_ids))
            scorer = model.scorer(popularity)
            return self.metric(evaluate(scorer, self.parts.train, self.parts.test))
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise TrialFailed("out of memory") from error
        except ConfigError as error:
            raise TrialFailed(str(error)) from error
        finally:
            # Keras keeps the graphs of all models until its session is cleared.
            tf.keras.backend.clear_session()


def _comments(dataset: Dataset, metric: str, study: optuna.Study, seconds: float) -> list[str]:
    """Return the comments for the top of the output file, which say how its settings were found."""
    best, first = search.finished_trials(study)[0], study.trials[0].value
    return [
        f"Found by python -m trainer tune on {dataset.name}: the highest {metric} on "
        f"validation rows, which are {_VALIDATION_SHARE:.0%} of the training rows.",
        f"Trial 1, the starting configuration: {'failed' if first is None else f'{first:.4f}'}",
        f"Trial {best.number + 1}, this configuration: {best.value:.4f}",
        f"Trials: {len(study.trials)}, in {seconds:.0f} s",
        "validation_share is 0 because every trial trains for all of its epochs.",
    ]
