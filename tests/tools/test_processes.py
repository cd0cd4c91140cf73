"""Process control, with real processes."""

import sys
from pathlib import Path

import pytest

from tools.processes import ProcessError, Server
from tools.waiting import until

_SERVER = """
import signal, sys, time
if sys.argv[1] == "fails":
    sys.exit("no such directory")
print(f"server ready on 127.0.0.1:{sys.argv[-1].replace('0', '7')}", flush=True)
signal.pause()
"""


def _command(mode: str) -> list[str]:
    return [sys.executable, "-c", _SERVER, mode, "--port", "0"]


def test_until_names_the_condition_and_the_limit() -> None:
    assert until(lambda: True) < 1
    with pytest.raises(TimeoutError, match=r"^condition not met within 0.1 s: it rains$"):
        until(lambda: False, 0.1, "it rains")


def test_server_that_fails_to_start_reports_its_output(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"ended with status 1.*\nno such directory"):
        Server(_command("fails"), log=tmp_path / "server.log")


def test_killed_server_is_started_again_on_its_port_with_a_log_of_its_own(tmp_path: Path) -> None:
    with Server(_command("runs"), log=tmp_path / "server.log") as server:
        assert (server.address, server.running) == ("127.0.0.1:7", True)
        server.kill()
        assert not server.running
        server.start()
        assert (server.address, server.running) == ("127.0.0.1:7", True)
        assert server.log == tmp_path / "server-2.log"
    assert not server.running


def test_paused_server_is_stopped() -> None:
    with Server(_command("runs")) as server:
        server.pause()
    assert server.popen.returncode != 0
