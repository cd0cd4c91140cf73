import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from trainer.errors import TuningError
from trainer.tuning import search

SEARCHED = {"x": FloatDistribution(0, 1)}
Trial = Callable[[float, Callable[[], bool]], float]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _search(
    trial: Trial,
    seconds: float,
    trials: int | None = None,
    *,
    studies: list[optuna.Study] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> optuna.Study:
    def run_trial(parameters: Mapping[str, Any], time_left: Callable[[], bool]) -> float:
        return trial(parameters["x"], time_left)

    return search.search(
        *(run_trial, SEARCHED, {"x": 0.9}),
        budget_s=seconds,
        max_trials=trials,
        seed=1,
        after_trial=([] if studies is None else studies).append,
        clock=clock,
    )


def test_search_starts_at_the_given_point_and_improves() -> None:
    tried = []

    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        tried.append(x)
        return -abs(x - 0.2)

    best = search.finished_trials(_search(trial, 60, 30))[0]
    assert (tried[0], len(tried)) == (0.9, 30)
    assert abs(best.params["x"] - 0.2) < 0.05
    assert best.value == max(-abs(x - 0.2) for x in tried)


def test_no_trial_begins_after_the_budget() -> None:
    clock = Clock()
    answers = []

    def trial(x: float, time_left: Callable[[], bool]) -> float:
        answers.append(time_left())
        clock.now += 4
        answers.append(time_left())
        return x

    study = _search(trial, 10, clock=clock)
    assert len(search.finished_trials(study)) == 3
    assert answers == [True, True, True, True, True, False]


def test_failed_trial_does_not_end_the_search() -> None:
    numbers = iter(range(4))
    studies: list[optuna.Study] = []

    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        if next(numbers) % 2 == 0:
            raise search.TrialFailed(f"at {x}")
        return x

    study = _search(trial, 60, 4, studies=studies)
    assert sorted(trial.number for trial in search.finished_trials(study)) == [1, 3]
    assert (search.failure_reason(study.trials[0]), len(studies)) == ("at 0.9", 4)


def test_error_names_the_reason_of_the_first_failed_trial() -> None:
    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        raise search.TrialFailed(f"at {x}")

    with pytest.raises(TuningError, match=re.escape("no trial finished (at 0.9)")):
        _search(trial, 60, 3)


@pytest.mark.parametrize("finished", [0, 2])
def test_interrupt_ends_the_search_and_keeps_finished_trials(finished: int) -> None:
    numbers = iter(range(10))

    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        if next(numbers) == finished:
            raise KeyboardInterrupt
        return x

    if finished:
        assert len(search.finished_trials(_search(trial, 60))) == finished
    else:
        with pytest.raises(TuningError, match="interrupted"):
            _search(trial, 60)
