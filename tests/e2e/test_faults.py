"""Short versions of chaos scenarios, with real processes and a check of every answer."""

from pathlib import Path

import pytest

from benchmarks.chaos.environment import Environment
from benchmarks.chaos.scenarios import SCENARIOS


@pytest.mark.parametrize(
    "name",
    [
        "kill-model-server",
        "kill-one-of-two",
        "pause-model-server",
        "kill-worker",
        "drain",
        "drain-one-of-two",
    ],
)
def test_chaos_scenario_keeps_its_bounds(name: str, models_dir: Path, tmp_path: Path) -> None:
    environment = Environment(
        models_dir=models_dir,
        work=tmp_path,
        rate=100,
        # Statuses and answers are checked as strictly as ever. Times are not, because the machine
        # may be busy.
        deadline_s=3.0,
        steady_s=3.0,
        down_s=0.5,
        paused_s=4.0,
        nice=0,
        patience=10,
    )
    assert [check for check in SCENARIOS[name](environment) if not check.passed] == []
