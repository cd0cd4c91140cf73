"""The fast transport is optional: the service also runs without it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio
import pytest

from query_service import grpc_server
from query_service.settings import Settings
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tests.query_service.conftest import FakeModelServer
from tools.processes import ROOT

#: A grpcio release that has renamed a private class, and the command line of the service.
_WITH_BROKEN_GRPCIO = """
import sys
from grpc._cython import cygrpc
del cygrpc.ReceiveCloseOnServerOperation
from query_service.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def _serving_with_broken_grpcio(
    model_server: FakeModelServer, *arguments: str
) -> Iterator["subprocess.Popen[str]"]:
    serve = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_BROKEN_GRPCIO, *serve, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "fallbacks"),
    [((), 1), (("--transport", "auto"), 1), (("--transport", "aio"), 0), (("--runtime", "aio"), 0)],
)
def test_the_service_runs_if_grpcio_breaks_the_fast_transport(
    model_server: FakeModelServer, arguments: tuple[str, ...], fallbacks: int
) -> None:
    with _serving_with_broken_grpcio(model_server, *arguments) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split(" ready on ")[1].split(": ")[0]
        with grpc.insecure_channel(address) as channel:
            stub = pb_grpc.RetrievalServiceStub(channel)
            request = pb.RetrieveRequest(user_id="u1", max_candidates=2)
            answer = stub.Retrieve(request, timeout=5)
            assert [candidate.item_id for candidate in answer.candidates] == ["i0", "i1"]
            with pytest.raises(grpc.RpcError) as raised:
                stub.Retrieve(pb.RetrieveRequest(), timeout=5)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        process.terminate()
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "Traceback" not in log
    lines = [line for line in log.splitlines() if "fast transport" in line]
    assert len(lines) == fallbacks
    assert all("ReceiveCloseOnServerOperation" in line for line in lines)


def test_forcing_a_transport_that_does_not_work_is_an_error_at_startup(
    model_server: FakeModelServer,
) -> None:
    with _serving_with_broken_grpcio(model_server, "--transport", "fast") as process:
        out, log = process.communicate(timeout=20)
    assert (out, process.returncode) == ("", 1)
    assert log.startswith("error: --transport fast does not work with grpcio ")
    assert "Traceback" not in log


async def _server_type(transport: str) -> type:
    server = grpc_server.make_server(transport, [])
    await server.stop(0)
    return type(server)


@pytest.mark.parametrize(("transport", "fast"), [("auto", True), ("fast", True), ("aio", False)])
def test_transport_of_the_installed_grpcio(
    transport: str, fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    module = asyncio.run(_server_type(transport)).__module__
    assert module.startswith("query_service.transport" if fast else "grpc.aio")
    assert not caplog.records


def test_auto_falls_back_with_a_grpcio_that_is_not_tested(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_server, "TESTED_GRPCIO", ("1.0.0", "1.1.0"))
    assert asyncio.run(_server_type("auto")).__module__.startswith("grpc.aio")
    [record] = caplog.records
    assert "tested with 1.0.0 and 1.1.0 only" in record.getMessage()
    assert asyncio.run(_server_type("fast")).__module__.startswith("query_service.transport")


def test_the_locked_grpcio_is_a_tested_one() -> None:
    lock = (ROOT / "requirements" / "query-service.lock").read_text()
    [line] = [line for line in lock.splitlines() if line.startswith("grpcio==")]
    assert line.removeprefix("grpcio==").split()[0] in grpc_server.TESTED_GRPCIO


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ({}, "auto"),
        ({"runtime": "core"}, "fast"),
        ({"runtime": "aio"}, "aio"),
        ({"transport": "fast", "runtime": "aio"}, "fast"),
        ({"transport": "aio", "runtime": "core"}, "aio"),
    ],
)
def test_runtime_is_an_alias_of_transport(settings: dict[str, str], chosen: str) -> None:
    assert Settings(**settings).chosen_transport == chosen  # type: ignore[arg-type]


def test_unknown_transport_is_refused() -> None:
    with pytest.raises(ValueError, match="--transport must be auto, aio or fast, not 'uring'"):
        Settings(transport="uring")
