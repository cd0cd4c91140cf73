"""Short versions of `make chaos`: real processes are harmed, and every request is looked at."""

from pathlib import Path

import pytest

from benchmarks.chaos.lab import Lab, Times
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
def test_a_fault_does_no_more_harm_than_it_has_to(
    name: str, models_dir: Path, tmp_path: Path
) -> None:
    lab = Lab(
        models_dir=models_dir,
        work=tmp_path,
        rate=100,
        # Statuses and answers are as strict as ever, times are not: the machine may be busy.
        deadline_s=3.0,
        times=Times(calm=3.0, away=0.5, paused=4.0),
        nice=0,
        patience=10,
    )
    assert [one for one in SCENARIOS[name](lab) if not one.held] == []
