"""The search keeps its budget, never looks at test rows, and leaves a file that ``run`` takes."""

import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import tensorflow as tf
from optuna.distributions import FloatDistribution
from rich.console import Console

from tests.conftest import ROOT
from trainer import config
from trainer.cli import main as cli
from trainer.data import split, synthetic
from trainer.data.types import Dataset, Interactions
from trainer.model import training
from trainer.model.training.defaults import resolve
from trainer.tuning import search, space, tune
from trainer.tuning.objective import Judge

SEARCHED = {"x": FloatDistribution(0, 1)}
Trial = Callable[[float, Callable[[], bool]], float]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _search(
    trial: Trial,
    limits: search.Limits,
    *,
    told: list[optuna.Study] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> optuna.Study:
    def judge(parameters: Mapping[str, Any], time_left: Callable[[], bool]) -> float:
        return trial(parameters["x"], time_left)

    return search.search(
        *(judge, SEARCHED, {"x": 0.9}, limits),
        seed=1,
        after_trial=([] if told is None else told).append,
        clock=clock,
    )


def test_the_search_starts_where_it_is_told_to_and_gets_better() -> None:
    tried = []

    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        tried.append(x)
        return -abs(x - 0.2)

    best = search.finished(_search(trial, search.Limits(60, 30)))[0]
    assert (tried[0], len(tried)) == (0.9, 30)
    assert abs(best.params["x"] - 0.2) < 0.05
    assert best.value == max(-abs(x - 0.2) for x in tried)


def test_no_trial_begins_after_the_budget_and_all_are_told_when_it_is_over() -> None:
    clock = Clock()
    told = []

    def trial(x: float, time_left: Callable[[], bool]) -> float:
        told.append(time_left())
        clock.now += 4
        told.append(time_left())
        return x

    study = _search(trial, search.Limits(10), clock=clock)
    assert len(search.finished(study)) == 3
    assert told == [True, True, True, True, True, False]


def test_a_failing_trial_does_not_end_the_search() -> None:
    numbers = iter(range(4))
    told: list[optuna.Study] = []

    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        if next(numbers) % 2 == 0:
            raise search.TrialFailed(f"at {x}")
        return x

    study = _search(trial, search.Limits(60, 4), told=told)
    assert [one.number for one in sorted(search.finished(study), key=lambda t: t.number)] == [1, 3]
    assert (search.reason(study.trials[0]), len(told)) == ("at 0.9", 4)


def test_where_all_fail_the_first_reason_is_told() -> None:
    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        raise search.TrialFailed(f"at {x}")

    with pytest.raises(search.TuningError, match=re.escape("no trial was finished: at 0.9")):
        _search(trial, search.Limits(60, 3))


@pytest.mark.parametrize("finished", [0, 2])
def test_an_interrupt_ends_the_search_and_keeps_what_was_finished(finished: int) -> None:
    numbers = iter(range(10))

    def trial(x: float, time_left: object) -> float:  # noqa: ARG001
        if next(numbers) == finished:
            raise KeyboardInterrupt
        return x

    if finished:
        assert len(search.finished(_search(trial, search.Limits(60)))) == finished
    else:
        with pytest.raises(search.TuningError, match="interrupted"):
            _search(trial, search.Limits(60))


def _resolved(preset: str, *settings: str) -> config.Config:
    return resolve(config.load(preset, settings), users=500, items=1000, timestamps=True)


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize("objective", ["full_softmax", "sampled_softmax", "in_batch"])
def test_the_search_can_start_from_every_preset(preset: str, objective: str) -> None:
    start = _resolved(preset, "training.negatives=100", f"training.objective={objective}")
    searched = space.distributions(start, item_features=True)
    point = space.starting_point(start, searched)
    assert space.configured(start, point) == start
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.enqueue_trial(point)
    first, *others = (study.ask(searched).params for _ in range(30))
    # Out of the bounds Optuna would only warn. Out of its own, ``configured`` raises.
    assert first == point
    assert all(searched[key]._contains(value) for key, value in point.items())
    for parameters in others:
        made = space.configured(start, parameters)
        assert made != start
        assert made.training.epochs <= 2 * start.training.epochs


def test_what_makes_no_difference_is_not_searched() -> None:
    def searched(*settings: str, objective: str, item_features: bool = True) -> set[str]:
        start = _resolved("default", f"training.objective={objective}", *settings)
        return set(space.distributions(start, item_features=item_features))

    every = searched(objective="sampled_softmax")
    assert every - searched(objective="full_softmax") == {"training.negatives"}
    assert every - searched("training.negatives=0", objective="sampled_softmax") == {
        "training.negatives"
    }
    assert every - searched(objective="in_batch") == {"training.kept_weight"}
    assert every - searched(objective="sampled_softmax", item_features=False) == {
        "model.item_id_dropout"
    }
    users_alone = ("model.history_length=0", "model.user_id=true")
    assert every - searched(*users_alone, objective="sampled_softmax") == {"model.history_exponent"}


SETTINGS = config.load(
    "tutorial",
    [
        *("training.epochs=2", "training.batch_size=64", "training.targets=random"),
        "model.history_length=50",
    ],
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic.load(users=80, items=120, interactions=2500, tastes=4, seed=3)


def _goal(output: Path, trials: int, *, seconds: float = 120.0) -> tune.Goal:
    return tune.Goal("top_10", search.Limits(seconds, trials), output, "tutorial")


def _values(output: Path) -> list[str]:
    return re.findall(r"^# (Trial .*)$", output.read_text(), re.MULTILINE)


def test_the_file_is_the_best_of_trials_that_begin_with_the_given_configuration(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[float, config.Config]] = []
    whole = Judge.__call__

    def judge(self: Judge, settings: config.Config, time_left: Callable[[], bool]) -> float:
        value = whole(self, settings, time_left)
        tried.append((value, settings))
        return value

    monkeypatch.setattr(Judge, "__call__", judge)
    output = tmp_path / "new" / "best.toml"
    best = tune.tune(data, SETTINGS, _goal(output, 4), Console(quiet=True))
    assert config.load(str(output)) == best
    assert [path.name for path in output.parent.iterdir()] == ["best.toml"]
    values = [value for value, _ in tried]
    assert tried[0][1] == SETTINGS
    assert SETTINGS not in [settings for _, settings in tried[1:]]
    assert best == tried[int(np.argmax(values))][1]
    assert _values(output) == [
        f"Trial 1, from which it started: {values[0]:.4f}",
        f"Trial {np.argmax(values) + 1}, which this is: {max(values):.4f}",
    ]
    assert np.argmax(values) not in (0, 3), "else the best is not told from the first or last"


def test_a_trial_has_no_validation_rows_of_its_own(data: Dataset, tmp_path: Path) -> None:
    settings = config.change(SETTINGS, "training.validation_share", 0.3)
    best = tune.tune(data, settings, _goal(tmp_path / "best.toml", 1), Console(quiet=True))
    assert best == SETTINGS


def test_test_rows_make_no_difference(data: Dataset, tmp_path: Path) -> None:
    """Out of range, they would be an error wherever they were looked up."""
    rows = data.interactions
    places = np.arange(len(rows))
    number = Interactions(rows.users, places.astype(np.int32))
    held_out = split.split(number, "random", SETTINGS.split.test_share, SETTINGS.seed).test.items
    users, items = rows.users.copy(), rows.items.copy()
    users[held_out] = items[held_out] = 10**6
    poisoned = replace(data, interactions=Interactions(users, items, rows.timestamps))
    found = []
    for name, one in (("clean", data), ("poisoned", poisoned)):
        output = tmp_path / f"{name}.toml"
        tune.tune(one, SETTINGS, _goal(output, 3), Console(quiet=True))
        found.append((config.load(str(output)), _values(output)))
    assert found[0] == found[1]


def test_a_trial_ends_at_an_epoch_when_the_time_is_over(data: Dataset, tmp_path: Path) -> None:
    output = tmp_path / "best.toml"
    endless = config.change(SETTINGS, "training.epochs", 10_000)
    started = time.monotonic()
    with pytest.raises(search.TuningError, match=r"time was over after \d+ of 10000 epochs"):
        tune.tune(data, endless, _goal(output, 5, seconds=1), Console(quiet=True))
    assert time.monotonic() - started < 20
    assert not output.exists()


@pytest.fixture
def first_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first model that is trained has a loss that is not a number."""
    model = training.fit.TwoTowerModel
    whole, begun = model.compute_loss, []

    def compute_loss(self: Any, features: Any, training: bool = False) -> tf.Tensor:
        # Called once or twice for every model, when it is traced.
        if self not in begun:
            begun.append(self)
        return whole(self, features, training) * (np.nan if len(begun) == 1 else 1.0)

    monkeypatch.setattr(model, "compute_loss", compute_loss)


@pytest.mark.usefixtures("first_diverges")
def test_a_trial_that_diverges_does_not_end_the_search(data: Dataset, tmp_path: Path) -> None:
    output = tmp_path / "best.toml"
    console = Console(record=True, file=io.StringIO())
    tune.tune(data, SETTINGS, _goal(output, 2), console)
    assert _values(output)[0].endswith("failed")
    assert "trial 1: training diverged" in console.export_text()


@pytest.mark.usefixtures("first_diverges")
def test_a_trial_that_diverges_ends_at_once(data: Dataset) -> None:
    asked = []

    def time_left() -> bool:
        asked.append(True)
        return False

    parts = split.split(data.interactions, "random", 0.1, 1)
    judge = Judge(data, parts, lambda quality: quality.unseen_items.top_100)
    with pytest.raises(search.TrialFailed, match="diverged"):
        judge(SETTINGS, time_left)
    assert not asked, "no need to ask whether there is time for another epoch"


@pytest.mark.parametrize(
    "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")]
)
def test_a_trial_without_memory_fails(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def train(*arguments: object, **named: object) -> None:  # noqa: ARG001
        raise error

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(search.TuningError, match="out of memory"):
        tune.tune(data, SETTINGS, _goal(tmp_path / "best.toml", 2), Console(quiet=True))


def test_an_interrupted_command_leaves_the_best_so_far(tmp_path: Path) -> None:
    output = tmp_path / "best.toml"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "trainer", "tune", "--dataset", "synthetic"),
            *("--set", "training.epochs=2", "--seed", "7"),
            *("--budget-minutes", "60", "--output", str(output)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 120
        while not output.exists():
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert said.splitlines()[-1] == (
        f"python -m trainer run --dataset synthetic --config {output} --models-dir models"
    )
    assert config.load(str(output)).seed == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget-minutes", "0"], "must be above 0"),
        (["--budget-minutes", "nan"], "must be above 0"),
        (["--budget-minutes", "1", "--trials", "0"], "must be at least 1"),
        (["--budget-minutes", "1", "--metric", "top_1000"], "invalid choice"),
    ],
)
def test_mistyped_limits(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["tune", "--dataset", "synthetic", "--output", "x.toml", *arguments])
    assert message in capsys.readouterr().err
