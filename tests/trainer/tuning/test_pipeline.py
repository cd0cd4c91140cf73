import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tools.processes import ROOT
from trainer import config
from trainer.cli import main as cli
from trainer.data import split, synthetic
from trainer.data.types import Dataset, Interactions
from trainer.errors import TuningError
from trainer.model import training
from trainer.model.two_tower import TwoTowerModel
from trainer.tuning import pipeline, search
from trainer.tuning.pipeline import Objective

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


def _tune(
    data: Dataset,
    settings: config.Config,
    output: Path,
    trials: int,
    *,
    seconds: float = 120.0,
    console: Console | None = None,
) -> config.Config:
    return pipeline.tune(
        data,
        settings,
        console or Console(quiet=True),
        metric="top_10",
        budget_s=seconds,
        max_trials=trials,
        output=output,
    )


def _values(output: Path) -> list[str]:
    return re.findall(r"^# (Trial .*)$", output.read_text(), re.MULTILINE)


def test_best_trial_is_written_and_the_first_is_the_given_configuration(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[float, config.Config]] = []
    original = Objective.__call__

    def recording(self: Objective, settings: config.Config, time_left: Callable[[], bool]) -> float:
        value = original(self, settings, time_left)
        tried.append((value, settings))
        return value

    monkeypatch.setattr(Objective, "__call__", recording)
    output = tmp_path / "new" / "best.toml"
    best = _tune(data, SETTINGS, output, 4)
    assert config.load(str(output)) == best
    assert [path.name for path in output.parent.iterdir()] == ["best.toml"]
    values = [value for value, _ in tried]
    assert tried[0][1] == SETTINGS
    assert SETTINGS not in [settings for _, settings in tried[1:]]
    assert best == tried[int(np.argmax(values))][1]
    assert _values(output) == [
        f"Trial 1, the starting configuration: {values[0]:.4f}",
        f"Trial {np.argmax(values) + 1}, this configuration: {max(values):.4f}",
    ]
    assert np.argmax(values) not in (0, 3), "the best trial must differ from the first and the last"


def test_trials_do_not_stop_early(data: Dataset, tmp_path: Path) -> None:
    settings = config.change(SETTINGS, "training.validation_share", 0.3)
    best = _tune(data, settings, tmp_path / "best.toml", 1)
    assert best == SETTINGS


def test_test_rows_are_never_used(data: Dataset, tmp_path: Path) -> None:
    """The test rows get ids out of range, which would raise an error if they were looked up."""
    rows = data.interactions
    # Rows whose items are their own positions show which positions are held out.
    positions = Interactions(rows.users, np.arange(len(rows), dtype=np.int32))
    share, seed = SETTINGS.split.test_share, SETTINGS.seed
    held_out = split.split(positions, "random", share, seed).test.items
    users, items = rows.users.copy(), rows.items.copy()
    users[held_out] = items[held_out] = 10**6
    poisoned = replace(data, interactions=Interactions(users, items, rows.timestamps))
    results = []
    for name, dataset in (("clean", data), ("poisoned", poisoned)):
        output = tmp_path / f"{name}.toml"
        _tune(dataset, SETTINGS, output, 3)
        results.append((config.load(str(output)), _values(output)))
    assert results[0] == results[1]


def test_running_trial_ends_when_the_time_budget_does(data: Dataset, tmp_path: Path) -> None:
    output = tmp_path / "best.toml"
    endless = config.change(SETTINGS, "training.epochs", 10_000)
    started = time.monotonic()
    with pytest.raises(TuningError, match=r"time budget ended after \d+ of 10000 epochs"):
        _tune(data, endless, output, 5, seconds=1)
    assert time.monotonic() - started < 20
    assert not output.exists()


@pytest.fixture
def first_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loss of the first model NaN."""
    model = TwoTowerModel
    original, started = model.compute_loss, []

    def compute_loss(self: Any, features: Any, training: bool = False) -> tf.Tensor:
        # Called more than once per model, whenever TensorFlow traces it.
        if self not in started:
            started.append(self)
        return original(self, features, training) * (np.nan if len(started) == 1 else 1.0)

    monkeypatch.setattr(model, "compute_loss", compute_loss)


@pytest.mark.usefixtures("first_diverges")
def test_diverging_trial_does_not_end_the_search(data: Dataset, tmp_path: Path) -> None:
    output = tmp_path / "best.toml"
    console = Console(record=True, file=io.StringIO())
    _tune(data, SETTINGS, output, 2, console=console)
    assert _values(output)[0].endswith("failed")
    assert "trial 1: training diverged" in console.export_text()


@pytest.mark.usefixtures("first_diverges")
def test_diverging_trial_ends_at_once(data: Dataset) -> None:
    asked = []

    def time_left() -> bool:
        asked.append(True)
        return False

    parts = split.split(data.interactions, "random", 0.1, 1)
    objective = Objective(data, parts, lambda quality: quality.unseen_items.top_100)
    with pytest.raises(search.TrialFailed, match="diverged"):
        objective(SETTINGS, time_left)
    assert not asked, "training must end before it asks for the time"


@pytest.mark.parametrize(
    "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")]
)
def test_trial_that_runs_out_of_memory_fails(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def train(*arguments: object, **named: object) -> None:  # noqa: ARG001
        raise error

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(TuningError, match="out of memory"):
        _tune(data, SETTINGS, tmp_path / "best.toml", 2)


def test_interrupted_command_keeps_the_best_result(tmp_path: Path) -> None:
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
        output_text, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert output_text.splitlines()[-1] == (
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
def test_invalid_limits_are_usage_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["tune", "--dataset", "synthetic", "--output", "x.toml", *arguments])
    assert message in capsys.readouterr().err
