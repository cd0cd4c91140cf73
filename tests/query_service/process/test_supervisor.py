"""The supervisor copes with workers that misbehave. It runs in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from query_service.process.supervisor import next_delay_s
from tests.skips import applies_if
from tools.processes import ROOT

pytestmark = [
    applies_if(sys.platform == "linux", "Linux"),
    pytest.mark.timeout(30),
]


_SUPERVISED = """
import os, signal, sys, time
from query_service.errors import StartError
from query_service.process.supervisor import supervise

def run(worker, port, ready):
{run}

def announce(port):
    print("ready", flush=True)

try:
    status = supervise(2, run, "127.0.0.1", 0, grace_s=0.0, on_ready=announce)
except StartError as error:
    sys.exit(f"error: {{error}}")
sys.exit(status)
"""


def _supervising(*lines: str) -> "subprocess.Popen[str]":
    """Start a supervisor whose workers run these lines."""
    code = _SUPERVISED.format(run="\n".join(f"    {line}" for line in lines))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_delay_of_replacements_doubles_until_one_is_stable() -> None:
    waits: list[float] = []
    last_s = None
    for _ in range(9):
        last_s = next_delay_s(last_s, lifetime_s=1.0)
        waits.append(last_s)
    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert next_delay_s(5.0, lifetime_s=29.0) == 5
    assert next_delay_s(5.0, lifetime_s=31.0) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise StartError('no room')", "error: no room"),
        ("os._exit(3)", r"error: worker \d+ ended with status 3 before it was ready"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"error: worker \d+ ended by signal 9, Killed before it was ready",
        ),
    ],
)
def test_worker_that_ends_before_it_is_ready_stops_the_service(line: str, message: str) -> None:
    process = _supervising(line)
    out, error = process.communicate(timeout=10)
    assert (out, process.returncode) == ("", 1)
    assert re.fullmatch(message, error.strip())


def test_supervisor_is_ready_when_all_workers_are(tmp_path: Path) -> None:
    started, late = str(tmp_path / "started"), tmp_path / "late"
    process = _supervising(
        f"with open({started!r}, 'a') as file: file.write('x')",
        f"if os.stat({started!r}).st_size > 1:",
        "    time.sleep(0.5)",
        f"    open({str(late)!r}, 'w').close()",
        "ready(port)",
        "time.sleep(60)",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert late.exists()
    process.terminate()
    assert process.communicate(timeout=8) == ("", "")
    assert process.returncode == 0


def test_worker_that_does_not_drain_is_killed() -> None:
    process = _supervising(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "ready(port)", "time.sleep(60)"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    left = psutil.Process(process.pid).children()
    assert len(left) == 2
    process.terminate()
    _, error = process.communicate(timeout=8)
    assert process.returncode == 1
    assert error.count("ended by signal 9, Killed instead of draining") == 2
    assert not psutil.wait_procs(left, timeout=0)[1]


def test_worker_that_cannot_restart_does_not_affect_others(tmp_path: Path) -> None:
    started = str(tmp_path / "started")
    process = _supervising(
        f"with open({started!r}, 'a') as file: file.write('x')",
        # Only the first two workers start.
        f"if os.stat({started!r}).st_size > 2: raise StartError('no room')",
        "ready(port)",
        "time.sleep(60)",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    first, second = psutil.Process(process.pid).children()
    first.kill()
    assert process.stderr is not None
    assert "ended by signal 9, Killed (the next one starts in 0 s)" in process.stderr.readline()
    for delay in ("0.1", "0.2"):
        message = f"ended with status 1: no room (the next one starts in {delay} s)"
        assert message in process.stderr.readline()
    assert process.poll() is None
    assert second.is_running()
    process.terminate()
    process.communicate(timeout=8)
    assert process.returncode == 0
