"""``python -m query_service health``, and the health check of the container image."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from query_service.cli import main as cli
from tests.query_service.conftest import FakeModelServer, Service
from tools.processes import ROOT
from tools.waiting import until


def test_health_command_follows_the_model_server(
    service: Service, model_server: FakeModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["health", "--address", service.address]
    assert cli.main(command) == 0
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "gone")
    until(lambda: cli.main(command) == 1, interval_s=0.1)
    assert "not serving" in capsys.readouterr().err


def _container_check() -> str:
    """Return the command of the query service's HEALTHCHECK in the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    [command] = re.finditer(r"^HEALTHCHECK .* CMD (.*)$", text, re.MULTILINE)
    return command[1]


def _is_healthy(heartbeat: Path) -> bool:
    environment = {**os.environ, "SHORTLIST_HEARTBEAT_FILE": str(heartbeat)}
    check = subprocess.run(
        ["/bin/sh", "-c", _container_check()], env=environment, capture_output=True, check=False
    )
    return check.returncode == 0


def test_container_check_follows_the_model_server(
    serve: Callable[..., Service], model_server: FakeModelServer, tmp_path: Path
) -> None:
    heartbeat = tmp_path / "serving"
    assert not _is_healthy(heartbeat)
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "not yet")
    service = serve(heartbeat_file=str(heartbeat), lame_duck_s=0.1)
    until(lambda: service.health() == 2)
    assert not _is_healthy(heartbeat)
    model_server.error = None
    until(lambda: _is_healthy(heartbeat))
    service.stop()
    # An old file means that the service has stopped, or hangs.
    os.utime(heartbeat, (0, 0))
    assert not _is_healthy(heartbeat)


def test_container_check_is_unhealthy_after_the_model_server_has_gone(
    serve: Callable[..., Service], model_server: FakeModelServer, tmp_path: Path
) -> None:
    heartbeat = tmp_path / "serving"
    service = serve(heartbeat_file=str(heartbeat))
    until(lambda: _is_healthy(heartbeat))
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "gone")
    until(lambda: service.health() == 2)
    os.utime(heartbeat, (0, 0))
    with pytest.raises(TimeoutError):
        until(lambda: _is_healthy(heartbeat), 1.5)


def test_heartbeat_file_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nowhere" / "serving"
    assert cli.main(["serve", "--port", "0", "--heartbeat-file", str(file)]) == 1
    expected = f"error: --heartbeat-file {file}: No such file or directory\n"
    assert capsys.readouterr().err == expected
