"""The service as a process: thin, quick to start, gone when told to."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from query_service import server
from query_service.cli import main as cli
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc
from tests.conftest import ROOT, running
from tests.query_service.conftest import FakeModelServer, Service, has_ipv6
from tests.skips import applies_if

_SERVE = ("serve", "--port", "0", "--model-server")


def test_nothing_heavy_is_imported() -> None:
    # A module that blocks what a machine without the other extras does not have.
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "numpy", "pandas", "trainer", "model_server"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocker())
import query_service.server, query_service.cli.main, query_service.load_test.command
assert not {"tensorflow", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_it_starts_in_a_second_and_stays_small(
    model_server: FakeModelServer, seen_path: Path
) -> None:
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        arguments = (
            *_SERVE,
            f"127.0.0.1:{model_server.port}",
            "--seen-store",
            f"sqlite:{seen_path}",
        )
        with running("query_service", *arguments) as (address, process):
            seconds.append(time.monotonic() - began)
            with grpc.insecure_channel(address) as channel:
                stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
                for _ in range(50):
                    stub.Retrieve(pb.RetrieveRequest(user_id="u1", exclude_seen=True))
            resident = psutil.Process(process.pid).memory_info().rss
    # The best of three: the machine may be busy with other things.
    assert min(seconds) < 1
    assert resident < 80_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_and_ends_with_zero(model_server: FakeModelServer, number: int) -> None:
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


def test_a_lame_duck_answers_and_says_that_it_goes(model_server: FakeModelServer) -> None:
    arguments = (*_SERVE, f"127.0.0.1:{model_server.port}", "--lame-duck-s", "1.5")
    with running("query_service", *arguments) as (address, process):
        with grpc.insecure_channel(address) as channel:
            stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
            watched = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=10
            )
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(signal.SIGTERM)
            assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
            # Longer than the watch over the model server takes to come by again.
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                assert stub.Retrieve(pb.RetrieveRequest(user_id="u1"), timeout=5).model_version == 7
            state = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert state.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert process.poll() is None
        assert process.wait(10) == 0


def test_a_taken_port_is_an_error(service: Service) -> None:
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


def test_ask_prints_a_table(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tmp_path / "items.csv"
    items.write_text('item_id,title\ni1,"Sun, the"\ni3,Moon\n')
    ask = ["ask", "--address", service.address, "--items", str(items), "--user", "u1", "-k", "2"]
    assert cli.main([*ask, "--exclude-seen"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rank  id  title       score",
        "   1  i1  Sun, the  -1.0000",
        "   2  i3  Moon      -3.0000",
        "from the model, version 7",
    ]
    assert cli.main([*ask, "--exclude", "i0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["origin"] == "model"
    assert answer["candidates"][0] == {
        "rank": 1,
        "item_id": "i1",
        "title": "Sun, the",
        "score": -1.0,
    }


def test_ask_with_recent_items(
    service: Service, model_server: FakeModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["ask", "--address", service.address]
    assert cli.main([*ask, "--user", "u1", "--recent", "i5", "--recent", "i3", "-k", "1"]) == 0
    assert model_server.histories == [[["i5", "i3"]]]
    with pytest.raises(SystemExit):
        cli.main([*ask, "--item", "i1", "--recent", "i3"])
    assert "--recent can only be used with --user" in capsys.readouterr().err


def test_ask_says_what_failed(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ask", "--address", service.address, "--item", "nothing"]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err
    assert cli.main(["ask", "--address", "127.0.0.1:1", "--user", "u"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["ask", "--item", "i1", "--exclude-seen"])
    assert "--viewer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["--user", "\udcff"], ["--user", "u", "--recent", "\udcff"], ["--user", "u", "-k", "9" * 10]],
)
def test_ask_what_cannot_be_sent(
    service: Service, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", "--address", service.address, *wrong]) == 1
    assert capsys.readouterr().err.startswith("error: the request cannot be sent: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"id,title\n", "'item_id'"), (b"item_id,title\ni1,\xff\n", "utf-8")],
)
def test_ask_with_titles_that_cannot_be_read(
    service: Service,
    tmp_path: Path,
    content: bytes | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = tmp_path / "items.csv"
    if content is not None:
        items.write_bytes(content + b"i1,Moon\n")
    ask = ["ask", "--address", service.address, "--user", "u1", "--items", str(items)]
    assert cli.main(ask) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: titles cannot be read: {items}")
    assert said in error


def test_ask_where_a_title_is_missing(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\ni0\n")
    ask = ["ask", "--address", service.address, "--user", "u1", "-k", "1", "--items", str(items)]
    assert cli.main(ask) == 0
    assert capsys.readouterr().out.splitlines()[1] == "   1  i0         0.0000"


def test_health_command(
    service: Service, model_server: FakeModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["health", "--address", service.address]) == 0
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "gone")
    deadline = time.monotonic() + 10
    while cli.main(["health", "--address", service.address]) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "not serving" in capsys.readouterr().err


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
def test_wrong_settings_are_refused(
    wrong: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def start(*_: object, **__: object) -> None:
        pytest.fail("it would have started")

    monkeypatch.setattr(server, "serve", start)
    with pytest.raises(SystemExit) as raised:
        cli.main(["serve", *wrong])
    assert raised.value.code == 2
    assert wrong[0] in capsys.readouterr().err.splitlines()[-1]


@applies_if(has_ipv6(), "IPv6")
def test_an_ipv6_address(model_server: FakeModelServer) -> None:
    arguments = (*_SERVE, f"127.0.0.1:{model_server.port}", "--host", "::1")
    with (
        running("query_service", *arguments) as (address, _),
        grpc.insecure_channel(address) as channel,
    ):
        assert address.startswith("[::1]:")
        stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
        assert stub.Retrieve(pb.RetrieveRequest(user_id="u1"), timeout=5).model_version == 7


def test_a_seen_store_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--port", "0", "--seen-store", "postgres://u:pw@h"]) == 1
    assert "use sqlite:PATH" in capsys.readouterr().err


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTLIST_DEFAULT_CANDIDATES", "7")
    monkeypatch.setenv("SHORTLIST_MODEL", "retrieval_exact")
    # Empty is as good as not there.
    monkeypatch.setenv("SHORTLIST_PORT", "")
    monkeypatch.setenv("SHORTLIST_SEEN_STORE", "")
    parsed = cli.make_parser().parse_args(["serve", "--model", "retrieval"])
    assert (parsed.default_candidates, parsed.model) == (7, "retrieval")
    assert (parsed.port, parsed.seen_store) == (50051, "none")
