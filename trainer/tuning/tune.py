"""One search, from rows to a file that ``run`` takes."""

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
from trainer.tuning.measures import METRICS
from trainer.tuning.objective import Judge

_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Goal:
    """What is wanted.

    Attributes:
        metric: a name in ``METRICS``.
        limits: when the search ends.
        output: where the best configuration goes, from the first trial on that was finished.
        preset: what that file starts from.
    """

    metric: str
    limits: search.Limits
    output: Path
    preset: str


def tune(dataset: Dataset, settings: config.Config, goal: Goal, console: Console) -> config.Config:
    """Search from ``settings`` on; the best configuration, which is also written.

    The rows are split as ``run`` splits them, and the test rows put aside. Of the training rows
    a part is held out in the same way to judge the trials. A trial holds out nothing more: its
    number of epochs is searched for, so nothing else need end it. For a run to train as the
    trial did, the configuration that is written has ``training.validation_share`` 0 too.

    Raises:
        DataError: the data cannot be split, or has no such columns, as the configuration asks.
        TuningError: no trial was finished.
        OSError: the file cannot be written.
    """
    # Before anything slow: a directory that cannot be made should not cost a wait.
    goal.output.parent.mkdir(parents=True, exist_ok=True)
    parts = _parts(dataset, settings)
    # From here on nothing has the test rows.
    dataset = replace(dataset, interactions=parts.train)
    console.print(
        f"Training on {len(parts.train):,} interactions of {dataset.name}, "
        f"judging by {len(parts.test):,} more of its training rows",
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
    judge = Judge(dataset, parts, METRICS[goal.metric])
    started = time.monotonic()

    def best(study: optuna.Study) -> config.Config:
        return space.configured(start, search.finished(study)[0].params)

    def after_trial(study: optuna.Study) -> None:
        line.after_trial(study)
        # At once: what ends the process, for want of memory say, should not cost the search.
        if search.finished(study):
            comments = _comments(dataset, goal, study, time.monotonic() - started)
            config.write(goal.output, best(study), goal.preset, comments)

    with terminal.ProgressLine(console, goal.limits.seconds) as line:
        study = search.search(
            lambda parameters, time_left: judge(space.configured(start, parameters), time_left),
            searched,
            space.starting_point(start, searched),
            goal.limits,
            seed=settings.seed,
            after_trial=after_trial,
        )
    terminal.show(console, study, goal.metric)
    return best(study)


def _parts(dataset: Dataset, settings: config.Config) -> Split:
    """What trials train on, and as its test rows what they are judged by."""
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
        f"validation rows, {_VALIDATION_SHARE:.0%} of the training rows.",
        f"Trial 1, from which it started: {'failed' if first is None else f'{first:.4f}'}",
        f"Trial {best.number + 1}, which this is: {best.value:.4f}",
        f"Trials: {len(study.trials)}, in {seconds:.0f} s",
        "validation_share is 0 because a trial trains for all of its epochs.",
    ]
