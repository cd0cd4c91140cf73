"""``python -m query_service serve``: start, settings, graceful shutdown."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from config_fields import rule_of
from query_service import server
from query_service.cli import main as cli
from query_service.settings import Settings
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc
from tests.conftest import running
from tests.query_service.conftest import FakeModelServer, Service, has_ipv6
from tests.skips import applies_if
from tools.processes import ROOT

_SERVE = ("serve", "--port", "0", "--model-server")


def test_service_runs_without_the_packages_of_the_trainer() -> None:
    # The imports of packages that are not installed with the query service alone fail.
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "numpy", "pandas", "trainer", "model_server"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocker())
import query_service.server, query_service.cli.main, query_service.load_test.processes
assert not {"tensorflow", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_start_takes_less_than_a_second_of_cpu_time_and_80_mb(
    model_server: FakeModelServer, seen_path: Path
) -> None:
    to = f"127.0.0.1:{model_server.port}"
    with running("query_service", *_SERVE, to, "--seen-store", f"sqlite:{seen_path}") as started:
        address, process = started
        measured = psutil.Process(process.pid)
        # CPU time, unlike elapsed time, does not depend on other processes.
        assert sum(measured.cpu_times()[:2]) < 1
        with grpc.insecure_channel(address) as channel:
            stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
            for _ in range(50):
                stub.Retrieve(pb.RetrieveRequest(user_id="u1", exclude_seen=True))
        assert measured.memory_info().rss < 80_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_the_service(model_server: FakeModelServer, number: int) -> None:
    model_server.delay_s = 0.6
    arguments = (*_SERVE, f"127.0.0.1:{model_server.port}", "--timeout-s", "5")
    with running("query_service", *arguments) as (address, process):
        with grpc.insecure_channel(address) as channel:
            stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
            call = stub.Retrieve.future(pb.RetrieveRequest(user_id="u1"), timeout=10)
            threading.Event().wait(0.3)
            process.send_signal(number)
            assert call.result().model_version == 7
        assert process.wait(10) == 0


def test_lame_duck_answers_and_reports_not_serving(model_server: FakeModelServer) -> None:
    arguments = (*_SERVE, f"127.0.0.1:{model_server.port}", "--lame-duck-s", "1.5")
    with running("query_service", *arguments) as (address, process):
        with grpc.insecure_channel(address) as channel:
            stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
            health: Any = health_pb2_grpc.HealthStub(channel)
            watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(signal.SIGTERM)
            assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
            # Longer than the interval in which the health is updated.
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                assert stub.Retrieve(pb.RetrieveRequest(user_id="u1"), timeout=5).model_version == 7
            state = health.Check(health_pb2.HealthCheckRequest())
            assert state.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert process.poll() is None
        assert process.wait(10) == 0


def test_taken_port_is_an_error(service: Service) -> None:
    port = service.address.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "query_service", "serve", "--port", port],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "error: cannot listen" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["--unknown-user", "guess"],
        ["--timeout-s", "0"],
        ["--default-candidates", "2000"],
        ["--default-candidates", "0"],
        ["--max-candidates", "1000001"],
        ["--port", "many"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--timeout-s", "nan"],
        ["--timeout-s", "inf"],
        ["--grace-s", "-1"],
        ["--grace-s", "nan"],
        ["--max-concurrent-requests", "0"],
        ["--workers", "0"],
        ["--workers", "many"],
        ["--host", ""],
        ["--model-server", ""],
        ["--model", ""],
    ],
)
def test_invalid_setting_names_its_flag(
    wrong: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def start(*_: object, **__: object) -> None:
        pytest.fail("the service must not start")

    monkeypatch.setattr(server, "serve", start)
    with pytest.raises(SystemExit) as raised:
        cli.main(["serve", *wrong])
    assert raised.value.code == 2
    assert wrong[0] in capsys.readouterr().err.splitlines()[-1]


@applies_if(has_ipv6(), "IPv6")
def test_service_listens_on_an_ipv6_address(model_server: FakeModelServer) -> None:
    arguments = (*_SERVE, f"127.0.0.1:{model_server.port}", "--host", "::1")
    with (
        running("query_service", *arguments) as (address, _),
        grpc.insecure_channel(address) as channel,
    ):
        assert address.startswith("[::1]:")
        stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
        assert stub.Retrieve(pb.RetrieveRequest(user_id="u1"), timeout=5).model_version == 7


def test_unknown_seen_store_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--port", "0", "--seen-store", "postgres://u:pw@h"]) == 1
    assert "use sqlite:PATH" in capsys.readouterr().err


def test_settings_come_from_flags_then_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHORTLIST_DEFAULT_CANDIDATES", "7")
    monkeypatch.setenv("SHORTLIST_MODEL", "retrieval_exact")
    # An empty variable counts as not set.
    monkeypatch.setenv("SHORTLIST_PORT", "")
    monkeypatch.setenv("SHORTLIST_SEEN_STORE", "")
    parsed = cli.make_parser().parse_args(["serve", "--model", "retrieval"])
    assert (parsed.default_candidates, parsed.model) == (7, "retrieval")
    assert (parsed.port, parsed.seen_store) == (50051, "none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "--port must be from 0 to 65535, not 65536"),
        (["--timeout-s", "0"], "--timeout-s must be above 0, not 0.0"),
        (["--fallback", "populer"], "--fallback must be none or popular, not 'populer'"),
        (["--workers", "many"], "argument --workers: must be a whole number, not 'many'"),
        (["--insecure", "perhaps"], "argument --insecure: must be yes or no, not 'perhaps'"),
    ],
)
def test_message_names_flag_range_and_value(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", *arguments])
    assert message in capsys.readouterr().err


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for setting in fields(Settings):
        text = rule_of(setting).help
        assert text[0].isupper(), setting.name
        assert text.endswith("."), setting.name
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    shown = capsys.readouterr().out
    assert all(Settings.display_name(setting.name) in shown for setting in fields(Settings))


def test_invalid_settings_cannot_be_constructed() -> None:
    with pytest.raises(ValueError, match="--cache-size must be at least 0, not -1"):
        Settings(cache_size=-1)
    with pytest.raises(ValueError, match="--default-candidates must be at most --max-candidates"):
        Settings(default_candidates=20, max_candidates=10)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of the services that would have started."""
    found: list[Settings] = []

    async def serve(settings: Settings, *_: object, **__: object) -> None:
        found.append(settings)

    monkeypatch.setattr(server, "serve", serve)
    return found


def test_public_address_needs_tls_or_tokens(
    started: list[Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    public = ["serve", "--host", "0.0.0.0", "--workers", "1"]
    for refused in (public, [*public, "--insecure", "no"], [*public, "--workers", "2"]):
        assert cli.main(refused) == 1
        assert capsys.readouterr().err.startswith("error: --host 0.0.0.0 can be reached from other")
    assert started == []
    for allowed in (
        ["serve"],
        [*public, "--insecure"],
        [*public, "--tokens", "file"],
        [*public, "--tls-cert", "cert", "--tls-key", "key"],
    ):
        assert cli.main(allowed) == 0
    monkeypatch.setenv("SHORTLIST_INSECURE", "1")
    assert cli.main(public) == 0
    assert len(started) == 5
