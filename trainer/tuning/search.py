"""Runs trials one after the other until a limit is reached.

This module knows neither models nor data: the caller passes the function that runs one trial.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from trainer.errors import TuningError

# The number of trials before the sampler starts to learn. Optuna's default is ten random trials. A
# search has only tens of trials and starts from a good guess, so the sampler learns from the first.
_STARTUP_TRIALS = 1
_FAILURE_REASON = "reason"

#: A function that returns True while there is time for another epoch.
TimeLeft = Callable[[], bool]

#: A function that runs one trial with the given parameters and returns the value to maximize. It
#: calls its second argument after every epoch.
RunTrial = Callable[[Mapping[str, Any], TimeLeft], float]


class TrialFailed(Exception):
    """A trial ended without a value. The message gives the reason."""


def search(
    run_trial: RunTrial,
    bounds: Mapping[str, BaseDistribution],
    start: Mapping[str, Any],
    *,
    seconds: float,
    trials: int | None = None,
    seed: int,
    after_trial: Callable[[optuna.Study], None],
    clock: Callable[[], float] = time.monotonic,
) -> optuna.Study:
    """Search for the parameters with the highest value, with a tree-structured Parzen estimator.

    No trial is pruned before its last epoch: the learning rate falls to zero over each trial's own
    number of epochs, so two trials can be compared only at their ends. SIGINT ends the search and
    discards the running trial.

    Args:
        run_trial: runs one trial. If it raises TrialFailed, the search continues with the next.
        bounds: the range of each parameter.
        start: the parameters of the first trial.
        seconds: no trial and no epoch begins later than this.
        trials: the largest number of trials; None for no limit.
        seed: the seed of the sampler.
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
    study.enqueue_trial(dict(start))
    end = clock() + seconds

    def time_left() -> bool:
        return clock() < end

    try:
        for _ in itertools.count() if trials is None else range(trials):
            if not time_left():
                break
            trial = study.ask(dict(bounds))
            try:
                study.tell(trial, run_trial(trial.params, time_left))
            except TrialFailed as error:
                trial.set_user_attr(_FAILURE_REASON, str(error))
                study.tell(trial, state=TrialState.FAIL)
            after_trial(study)
    except KeyboardInterrupt:
        pass
    if not finished_trials(study):
        failed = study.get_trials(deepcopy=False, states=[TrialState.FAIL])
        reason = failure_reason(failed[0]) if failed else "the search was interrupted"
        raise TuningError(
            f"no trial finished ({reason}); nothing was written. If the time was too short, raise "
            "--budget-minutes"
        )
    return study


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have a value, best first. Among equals, earlier trials come first."""
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return sorted(done, key=lambda trial: (-trial.values[0], trial.number))


def failure_reason(failed: FrozenTrial) -> str:
    """Return the message of the error that ended a failed trial."""
    return str(failed.user_attrs[_FAILURE_REASON])
