"""The service counts usable CPUs, and starts one worker for each if asked to."""

import os
from pathlib import Path

import pytest

from query_service.cli import main as cli
from query_service.process.cpus import usable_cpus


def test_cpus_are_limited_by_the_control_group(tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    limit = tmp_path / "cpu.max"
    assert usable_cpus(limit) == cpus
    for content, expected in [
        ("max 100000\n", cpus),
        ("6400000 100000\n", min(cpus, 64)),
        ("199999 100000\n", 1),
        ("50000 100000\n", 1),
        ("unexpected\n", cpus),
    ]:
        limit.write_text(content)
        assert usable_cpus(limit) == expected, content


def test_number_of_workers_comes_from_flag_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(*arguments: str) -> int:
        parsed = cli.make_parser().parse_args(["serve", *arguments])
        return int(parsed.workers)

    assert workers() == 1
    assert workers("--workers", "3") == 3
    assert workers("--workers", "auto") == usable_cpus()
    monkeypatch.setenv("SHORTLIST_WORKERS", "4")
    assert workers() == 4
    monkeypatch.setenv("SHORTLIST_WORKERS", "auto")
    assert workers() == usable_cpus()
