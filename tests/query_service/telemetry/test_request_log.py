"""The service logs slow and failed requests, and no line contains an id."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from query_service.api.retrieval_servicer import RetrievalServicer
from query_service.cli import main as cli
from query_service.cli import serve as serve_command
from query_service.telemetry.request_log import LINES_PER_SECOND
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tests.conftest import running
from tests.query_service.conftest import FakeModelServer
from tools.waiting import until

_SECRET = "secret-1d"


@contextmanager
def _serving(model_server: FakeModelServer, *more: str) -> Iterator[pb_grpc.RetrievalServiceStub]:
    """Run a service process; it has ended, with its log complete, when the block is left."""
    upstream = ("--model-server", f"127.0.0.1:{model_server.port}", "--timeout-s", "1")
    with (
        running("query_service", "serve", "--port", "0", *upstream, *more) as (address, process),
        grpc.insecure_channel(address) as channel,
    ):
        yield pb_grpc.RetrievalServiceStub(channel)
        process.terminate()
        assert process.wait(10) == 0


def _request_lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines of the log about requests."""
    lines = capfd.readouterr().err.splitlines()
    return [
        line for line in lines if re.search("slow request|request failed|further requests", line)
    ]


def _status(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_slow_and_failed_requests_are_logged(
    model_server: FakeModelServer, seen_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    more = ("--seen-store", f"sqlite:{seen_path}", "--timeout-s", "10")
    with _serving(model_server, "--log-format", "json", "--slow-ms", "600", *more) as stub:
        stub.Retrieve(pb.RetrieveRequest(user_id="u1"))
        model_server.delay_s = 0.7
        stub.Retrieve(pb.RetrieveRequest(user_id="u1"))
        model_server.delay_s = 0.0
        seen_path.unlink()
        seen = pb.RetrieveRequest(user_id="u1", exclude_seen=True)
        assert _status(lambda: stub.Retrieve(seen)) == "UNAVAILABLE"
        assert _status(lambda: stub.Retrieve(pb.RetrieveRequest(item_id="x"))) == "NOT_FOUND"
    slow, failed = map(json.loads, _request_lines(capfd))
    age = datetime.now().astimezone() - datetime.fromisoformat(slow.pop("time"))
    assert 0 <= age.total_seconds() < 30
    assert 700 <= slow.pop("duration_ms") < 10_000
    assert slow == {
        "level": "WARNING",
        "message": "slow request",
        "method": "Retrieve",
        "status": "OK",
        "waited_for": "model_server",
    }
    del failed["time"], failed["duration_ms"]
    assert failed == {
        "level": "WARNING",
        "message": "request failed",
        "method": "Retrieve",
        "status": "UNAVAILABLE",
        "waited_for": "seen_store",
        "error": "SeenStoreUnavailable",
    }


def test_format_of_a_text_line(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "unavailable")
    with _serving(model_server) as stub:
        _status(lambda: stub.Retrieve(pb.RetrieveRequest(user_id="u1")))
    (line,) = _request_lines(capfd)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING request failed method=Retrieve "
        r"status=UNAVAILABLE duration_ms=\d+\.\d waited_for=model_server "
        r"error=ModelServerUnavailable",
        line,
    )


def test_slow_ms_0_logs_no_slow_request(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    model_server.delay_s = 0.6
    with _serving(model_server, "--slow-ms", "0") as stub:
        stub.Retrieve(pb.RetrieveRequest(user_id="u1"))
    assert _request_lines(capfd) == []


def test_changes_of_health_and_shutdown_are_logged(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ""

    def logged(text: str) -> bool:
        nonlocal log
        log += capfd.readouterr().err
        return text in log

    with _serving(model_server, "--lame-duck-s", "0.1", "--grace-s", "3"):
        model_server.error = (grpc.StatusCode.UNAVAILABLE, "unavailable")
        until(lambda: logged("on the model server: NOT_SERVING"))
        model_server.error = None
        until(lambda: logged("on the model server: SERVING"))
    assert logged("draining")
    assert [line.split(" ", 1)[1] for line in log.splitlines()] == [
        "WARNING the model is not available on the model server: NOT_SERVING",
        "INFO the model is available on the model server: SERVING",
        "INFO draining: NOT_SERVING; the port closes in 0.1 s, then calls have 3 s to end",
    ]


def test_outage_does_not_flood_the_log(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    model_server.error = (grpc.StatusCode.INTERNAL, "broken")
    requests = 0
    began = time.monotonic()
    with _serving(model_server, "--log-format", "json") as stub:
        while requests < 300:
            calls = [stub.Retrieve.future(pb.RetrieveRequest(user_id="u1")) for _ in range(50)]
            requests += len(calls)
            assert {_status(call.result) for call in calls} == {"INTERNAL"}
    seconds = time.monotonic() - began
    lines = [json.loads(line) for line in _request_lines(capfd)]
    written = [line for line in lines if line["message"] == "request failed"]
    more = [line for line in lines if line["message"] == "further requests were slow or failed"]
    assert LINES_PER_SECOND <= len(written) <= LINES_PER_SECOND * (seconds + 1)
    assert len(written) + sum(line["count"] for line in more) == requests
    # The traceback names the status of the model server, but not its message.
    assert "AioRpcError INTERNAL" in written[0]["traceback"]
    assert "in _rank" in written[0]["traceback"]


def test_log_line_names_the_trace(
    model_server: FakeModelServer,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    trace = "0af7651916cd43dd8448eb211c80319c"
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "unavailable")
    with _serving(model_server, "--log-format", "json") as stub:
        metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
        _status(lambda: stub.Retrieve(pb.RetrieveRequest(user_id="u1"), metadata=metadata))
    first = json.loads(_request_lines(capfd)[0])
    assert (first["message"], first["trace_id"]) == ("request failed", trace)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_contains_no_ids(
    model_server: FakeModelServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    log_format: str,
) -> None:
    """Provoke every status that a request can end with, with ids in all fields."""
    seen = tmp_path / "seen.sqlite"
    seen.write_text("no database")
    user: dict[str, Any] = {
        "user_id": _SECRET,
        "recent_item_ids": [_SECRET],
        "exclude_item_ids": [_SECRET],
    }
    item: dict[str, Any] = {"item_id": _SECRET, "viewer_id": _SECRET, "exclude_item_ids": [_SECRET]}
    retrieve = pb.RetrieveRequest
    store = ("--seen-store", f"sqlite:{seen}", "--slow-ms", "0.001", "--log-format", log_format)
    with _serving(model_server, *store, "--unknown-user", "not-found") as stub:

        def ends_with(status: str, request: pb.RetrieveRequest, **options: Any) -> None:
            assert _status(lambda: stub.Retrieve(request, **options)) == status
            stub.BatchRetrieve(pb.BatchRetrieveRequest(requests=[request] * 2))

        ends_with("OK", retrieve(**user))
        ends_with("NOT_FOUND", retrieve(**item))
        model_server.known = False
        ends_with("NOT_FOUND", retrieve(user_id=_SECRET))
        ends_with("INVALID_ARGUMENT", retrieve(user_id=_SECRET * 100))
        ends_with("INVALID_ARGUMENT", retrieve(user_id=_SECRET, viewer_id=_SECRET))
        ends_with("UNAVAILABLE", retrieve(**user, exclude_seen=True))
        # The messages of the model server may contain ids as well.
        for code, status in [
            (grpc.StatusCode.INVALID_ARGUMENT, "INTERNAL"),
            (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
        ]:
            model_server.error = (code, f"{_SECRET} is wrong")
            ends_with(status, retrieve(**user))
        model_server.error = None
        model_server.spoil = lambda response: response.outputs["item_id"].string_val.append(
            f"{_SECRET}\udcff".encode(errors="surrogateescape")
        )
        ends_with("INTERNAL", retrieve(**user))
        model_server.spoil = None
        model_server.delay_s = 1.2
        ends_with("DEADLINE_EXCEEDED", retrieve(**user))
        assert _status(lambda: stub.Retrieve(retrieve(**user), timeout=0.1)) == "DEADLINE_EXCEEDED"
        predicts = len(model_server.signatures)
        call = stub.Retrieve.future(retrieve(**user))
        until(lambda: len(model_server.signatures) > predicts)
        call.cancel()
    log = capfd.readouterr().err
    for status in ("OK", "NOT_FOUND", "UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED"):
        assert status in log
    assert _SECRET not in log


def test_bug_is_logged_with_traceback_and_without_message(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from query_service.telemetry.logs import TextFormatter

    def answer(*_: object) -> None:
        raise KeyError(_SECRET)

    monkeypatch.setattr(RetrievalServicer, "_retrieve", answer)
    stub = serve().stub
    assert _status(lambda: stub.Retrieve(pb.RetrieveRequest(user_id=_SECRET))) == "INTERNAL"
    [record] = [record for record in caplog.records if record.exc_info]
    line = TextFormatter().format(record)
    assert "KeyError" in line
    assert f'File "{__file__}"' in line
    assert "raise KeyError(_SECRET)" in line
    assert _SECRET not in line


@pytest.mark.parametrize(
    "wrong",
    [
        ["--log-format", "xml"],
        ["--slow-ms", "-1"],
        ["--slow-ms", "nan"],
        ["--metrics-port", "65536"],
        ["--metrics-host", ""],
    ],
)
def test_invalid_settings_are_refused(
    wrong: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_command, "_serve", lambda _: pytest.fail("it would have started"))
    with pytest.raises(SystemExit):
        cli.main(["serve", *wrong])
    assert wrong[0] in capsys.readouterr().err.splitlines()[-1]
