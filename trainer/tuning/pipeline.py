"""Runs one search: splits the data, searches, and writes a file for ``run --config``."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from rich.console import Console

from trainer import config
from trainer.data import split
from trainer.data.types import Dataset, Split
from trainer.model.training.defaults import resolve
from trainer.tuning import search, space, terminal
from trainer.tuning.metrics import METRICS
from trainer.tuning.objective import Objective

_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Goal:
    """The goal of a search.

    Attributes:
        metric: a name in ``METRICS``.
        limits: the limits of the search.
        output: the file for the best configuration, written after every trial that finishes.
        preset: the name of the preset that the file is based on.
    """

    metric: str
    limits: search.Limits
    output: Path
    preset: str


def tune(dataset: Dataset, settings: config.Config, goal: Goal, console: Console) -> config.Config:
    """Search for better settings than ``settings``; write and return the best configuration.

    The rows are split as ``run`` splits them, and the test rows are put aside. Part of the training
    rows is held out in the same way to evaluate the trials. Trials do not stop early, because the
    number of epochs is one of the searched settings. For this reason ``training.validation_share``
    is 0 in the configuration that is written.

    Raises:
        DataError: the data cannot be split, or lacks columns that the configuration names.
        TuningError: no trial finished.
        OSError: the file cannot be written.
    """
    # First of all, so that a directory that cannot be created fails at once.
    goal.output.parent.mkdir(parents=True, exist_ok=True)
    parts = _split_training_rows(dataset, settings)
    # The test rows are out of reach from here on.
    dataset = replace(dataset, interactions=parts.train)
    console.print(
        f"Training on {len(parts.train):,} interactions of {dataset.name}, "
        f"evaluating trials on {len(parts.test):,} validation rows",
        markup=False,
        soft_wrap=True,
    )
    start = resolve(
        config.change(settings, "training.validation_share", 0.0),
        users=len(dataset.user_ids),
        items=len(dataset.item_ids),
        timestamps=parts.train.timestamps is not None,
    )
    searched = _searched(dataset, start)
    objective = Objective(dataset, parts, METRICS[goal.metric])
    started = time.monotonic()

    def best(study: optuna.Study) -> config.Config:
        return space.configured(start, search.finished(study)[0].params)

    def after_trial(study: optuna.Study) -> None:
        line.after_trial(study)
        # After every trial, so that a process that is killed leaves the best result so far.
        if search.finished(study):
            comments = _comments(dataset, goal, study, time.monotonic() - started)
            config.write(goal.output, best(study), goal.preset, comments)

    with terminal.ProgressLine(console, goal.limits.seconds) as line:
        study = search.search(
            lambda parameters, time_left: objective(space.configured(start, parameters), time_left),
            searched,
            space.starting_point(start, searched),
            goal.limits,
            seed=settings.seed,
            after_trial=after_trial,
        )
    terminal.show(console, study, goal.metric)
    return best(study)


def _split_training_rows(dataset: Dataset, settings: config.Config) -> Split:
    """Return the rows that trials train on, and the validation rows as ``test``."""
    kind = settings.split.kind
    train = split.split(dataset.interactions, kind, settings.split.test_share, settings.seed).train
    return split.split(train, kind, _VALIDATION_SHARE, settings.seed + 2)


def _searched(dataset: Dataset, start: config.Config) -> Mapping[str, BaseDistribution]:
    has_features = dataset.item_features is not None and len(dataset.item_features.columns) > 0
    return space.distributions(
        start, item_features=has_features and len(start.model.item_features) > 0
    )


def _comments(dataset: Dataset, goal: Goal, study: optuna.Study, seconds: float) -> list[str]:
    best, first = search.finished(study)[0], study.trials[0].value
    return [
        f"Found by python -m trainer tune on {dataset.name}: the highest {goal.metric} on "
        f"validation rows, which are {_VALIDATION_SHARE:.0%} of the training rows.",
        f"Trial 1, the starting configuration: {'failed' if first is None else f'{first:.4f}'}",
        f"Trial {best.number + 1}, this configuration: {best.value:.4f}",
        f"Trials: {len(study.trials)}, in {seconds:.0f} s",
        "validation_share is 0 because every trial trains for all of its epochs.",
    ]
