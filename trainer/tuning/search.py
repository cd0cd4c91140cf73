"""Runs trials one after the other until a limit is reached; independent of models and data."""

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
_REASON = "reason"

#: Runs one trial. Takes its parameters, and a function to call after every epoch that tells whether
#: there is time for another one. Returns the value to maximize.
RunTrial = Callable[[Mapping[str, Any], Callable[[], bool]], float]


class TrialFailed(Exception):
    """A trial ended without a value. The message says why."""


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
    """Search with Optuna's tree-structured Parzen estimator, starting at ``start``.

    Trials are not pruned: the learning rate falls to zero over each trial's own number of epochs,
    so two trials can be compared only at their ends. SIGINT ends the search and discards the trial
    that is running.

    Args:
        run_trial: runs one trial. If it raises TrialFailed, the search continues with the next.
        bounds: the range of each parameter.
        start: a value for each parameter, for the first trial.
        seconds: no trial and no epoch begins later than this.
        trials: the largest number of trials; None for no limit.
        seed: the seed of the sampler.
        after_trial: called after every trial, including failed ones.
        clock: returns the time in seconds.

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
                trial.set_user_attr(_REASON, str(error))
                study.tell(trial, state=TrialState.FAIL)
            after_trial(study)
    except KeyboardInterrupt:
        pass
    if not finished(study):
        failed = study.get_trials(deepcopy=False, states=[TrialState.FAIL])
        why = reason(failed[0]) if failed else "the search was interrupted"
        raise TuningError(
            f"no trial finished ({why}); nothing was written. If the time was too short, raise "
            "--budget-minutes"
        )
    return study


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have a value, best first. Among equals, earlier trials come first."""
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return sorted(done, key=lambda trial: (-trial.values[0], trial.number))


def reason(failed: FrozenTrial) -> str:
    """Return why a trial has no value."""
    return str(failed.user_attrs[_REASON])
