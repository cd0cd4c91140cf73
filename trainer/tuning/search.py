"""Trials one after the other until the time is over. Knows nothing of models and data."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from trainer.errors import TuningError as TuningError

# Before the sampler learns from them; Optuna's own ten are random but for the first. That one is
# a good guess, and a search has tens of trials rather than hundreds: it looks around there first.
_UNGUIDED_TRIALS = 1
_REASON = "reason"

#: A trial's parameters, and what to ask after every epoch whether there is time for another,
#: in; the trial's value out, higher is better.
Judge = Callable[[Mapping[str, Any], Callable[[], bool]], float]


class TrialFailed(Exception):
    """A trial that has no value. The message says why."""


@dataclass(frozen=True)
class Limits:
    """How long a search goes on: until the one or the other is reached.

    Attributes:
        seconds: no epoch and no trial begins after so many.
        trials: so many are begun; None: any number.
    """

    seconds: float
    trials: int | None = None


def search(
    judge: Judge,
    searched: Mapping[str, BaseDistribution],
    start: Mapping[str, Any],
    limits: Limits,
    *,
    seed: int,
    after_trial: Callable[[optuna.Study], None],
    clock: Callable[[], float] = time.monotonic,
) -> optuna.Study:
    """All trials, by Optuna's tree-structured Parzen estimator; the first is at ``start``.

    No trial is pruned on the way: with a learning rate that falls to zero over each trial's own
    number of epochs, two of them are comparable only at their ends. SIGINT ends the search; the
    trial under way then counts for nothing, like one for which the time was too short.

    Args:
        judge: runs a trial. If it raises TrialFailed, the search goes on with the next.
        searched: the parameters and their bounds.
        start: a value of each parameter.
        limits: when to end.
        seed: of the sampler.
        after_trial: called after each, whatever became of it.
        clock: seconds.

    Raises:
        TuningError: no trial was finished.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_UNGUIDED_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(dict(start))
    end = clock() + limits.seconds

    def time_left() -> bool:
        return clock() < end

    try:
        for _ in itertools.count() if limits.trials is None else range(limits.trials):
            if not time_left():
                break
            trial = study.ask(dict(searched))
            try:
                study.tell(trial, judge(trial.params, time_left))
            except TrialFailed as error:
                trial.set_user_attr(_REASON, str(error))
                study.tell(trial, state=TrialState.FAIL)
            after_trial(study)
    except KeyboardInterrupt:
        pass
    if not finished(study):
        raise TuningError(f"no trial was finished: {_first_reason(study)}")
    return study


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a value, the best first; of equals the earlier one."""
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return sorted(done, key=lambda trial: (-_value(trial), trial.number))


def reason(failed: FrozenTrial) -> str:
    """Why a trial has no value."""
    said: str = failed.user_attrs[_REASON]
    return said


def _first_reason(study: optuna.Study) -> str:
    failed = study.get_trials(deepcopy=False, states=[TrialState.FAIL])
    return reason(failed[0]) if failed else "interrupted"


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None, "a finished trial has one"
    return trial.value
