"""Runs trials one after the other until a limit is reached.

This module does not depend on models or data: the caller passes the function that runs a trial.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from trainer.errors import TuningError

# The number of trials before the sampler learns from results. Optuna's default is ten random
# trials. A search has only a few dozen and starts from a good guess, so it learns from the first.
_STARTUP_TRIALS = 1
_FAILURE_REASON = "reason"

#: A function that returns True while there is time for another epoch.
HasTimeLeft = Callable[[], bool]

#: A function that runs one trial with the given parameters and returns the value to maximize. It
#: calls its second argument after every epoch, and raises TrialFailed if no time is left.
RunTrial = Callable[[Mapping[str, Any], HasTimeLeft], float]


class TrialFailed(Exception):
    """A trial ended without a value. The message gives the reason."""


def search(
    run_trial: RunTrial,
    bounds: Mapping[str, BaseDistribution],
    initial_parameters: Mapping[str, Any],
    *,
    budget_s: float,
    max_trials: int | None = None,
    seed: int,
    after_trial: Callable[[optuna.Study], None],
    clock: Callable[[], float] = time.monotonic,
) -> optuna.Study:
    """Maximize the value of ``run_trial`` with a tree-structured Parzen estimator.

    No trial is pruned before its last epoch. The learning rate falls to zero over each trial's own
    number of epochs, so two trials can be compared only once both have finished. SIGINT ends the
    search and discards the running trial.

    Args:
        run_trial: runs one trial. If it raises TrialFailed, the search continues with the next.
        bounds: the range of each parameter.
        initial_parameters: the parameters of the first trial.
        budget_s: the time budget in seconds. No trial or epoch starts after it has run out.
        max_trials: the maximum number of trials; None for no limit.
        seed: seeds the sampler.
        after_trial: called after every trial, including failed ones.
        clock: returns the time in seconds.

    Returns:
        The study, which contains all finished and failed trials.

    Raises:
        TuningError: no trial finished.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(dict(initial_parameters))
    end = clock() + budget_s
    reason = "the time budget ended before the first trial"

    def has_time_left() -> bool:
        return clock() < end

    try:
        for _ in itertools.count() if max_trials is None else range(max_trials):
            if not has_time_left():
                break
            trial = study.ask(dict(bounds))
            try:
                study.tell(trial, run_trial(trial.params, has_time_left))
            except TrialFailed as error:
                trial.set_user_attr(_FAILURE_REASON, str(error))
                study.tell(trial, state=TrialState.FAIL)
            after_trial(study)
    except KeyboardInterrupt:
        reason = "the search was interrupted"
    if not finished_trials(study):
        if failed := study.get_trials(deepcopy=False, states=[TrialState.FAIL]):
            reason = failure_reason(failed[0])
        raise TuningError(
            f"no trial finished ({reason}); nothing was written. If the time was too short, raise "
            "--budget-minutes"
        )
    return study


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have a value, best first. Of equal trials, the earlier comes first."""
    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return sorted(finished, key=lambda trial: (-trial.values[0], trial.number))


def failure_reason(failed: FrozenTrial) -> str:
    """Return the message of the error that ended a failed trial."""
    return str(failed.user_attrs[_FAILURE_REASON])
