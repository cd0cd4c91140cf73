"""Several model servers share the load, and a failing one costs no request."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest

from query_service.backend import circuit_breaker
from query_service.settings import Settings
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service
from tools.waiting import until

Serve = Callable[..., Service]
Code = grpc.StatusCode


def test_invalid_addresses_are_an_error_that_names_the_flag() -> None:
    with pytest.raises(ValueError, match="--model-server: several addresses must be IP addresses"):
        Settings(model_server="a:1,b:1")


@pytest.fixture
def two_servers() -> Iterator[list[FakeModelServer]]:
    with ExitStack() as stack:
        servers = [FakeModelServer(), FakeModelServer()]
        for server in servers:
            stack.callback(server.stop)
        yield servers


@pytest.fixture
def balanced(serve: Serve, two_servers: list[FakeModelServer]) -> Service:
    """A service that is connected to both model servers."""
    service = serve(model_server=",".join(f"127.0.0.1:{server.port}" for server in two_servers))
    until(lambda: _code(service) is Code.OK and all(map(_predicts, two_servers)))
    return service


def _predicts(server: FakeModelServer) -> int:
    return len(server.remaining_s)


def _code(service: Service) -> grpc.StatusCode:
    request = pb.RetrieveRequest(user_id="u", max_candidates=3)
    code: grpc.StatusCode = service.stub.Retrieve.future(request, timeout=5).code()
    return code


def test_model_servers_share_the_load(
    balanced: Service, two_servers: list[FakeModelServer]
) -> None:
    before = [_predicts(server) for server in two_servers]
    for _ in range(20):
        assert _code(balanced) is Code.OK
    after = [_predicts(server) for server in two_servers]
    assert after == [count + 10 for count in before]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.NOT_FOUND])
def test_predict_that_one_server_refuses_is_retried_on_the_other(
    balanced: Service, two_servers: list[FakeModelServer], code: grpc.StatusCode
) -> None:
    two_servers[0].error = (code, "as arranged")
    before = _predicts(two_servers[0])
    assert {_code(balanced) for _ in range(20)} == {Code.OK}
    assert _predicts(two_servers[0]) > before


def test_stopping_one_server_costs_no_request(
    balanced: Service, two_servers: list[FakeModelServer]
) -> None:
    two_servers[0].delay_s = 0.2
    before = _predicts(two_servers[0])
    calls = [
        balanced.stub.Retrieve.future(pb.RetrieveRequest(user_id="u", max_candidates=k), timeout=5)
        for k in (1, 200, 500, 900)  # The depths differ too much for a common batch.
    ]
    until(lambda: _predicts(two_servers[0]) > before)
    two_servers[0].stop()
    assert [call.code() for call in calls] == [Code.OK] * 4
    assert {_code(balanced) for _ in range(50)} == {Code.OK}


def test_retries_stop_while_everything_fails(
    serve: Serve, model_server: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "FAILURE_THRESHOLD", 1_000_000)
    service = serve()
    model_server.error = (Code.UNAVAILABLE, "as arranged")
    before = _predicts(model_server)
    for _ in range(100):
        assert _code(service) is Code.UNAVAILABLE
    assert 100 <= _predicts(model_server) - before <= 125, "the retry budget is about 20"


def test_invalid_request_is_not_retried(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve()
    model_server.error = (Code.INVALID_ARGUMENT, "as arranged")
    assert _code(service) is Code.INTERNAL
    assert _predicts(model_server) == 1


def test_unavailable_server_fails_requests_fast_and_recovers_soon(
    serve: Serve, model_server: FakeModelServer
) -> None:
    service = serve()
    assert _code(service) is Code.OK
    model_server.error = (Code.UNAVAILABLE, "as arranged")
    until(lambda: service.health() != 1)
    before = _predicts(model_server)
    began = time.monotonic()
    while time.monotonic() - began < 1:
        call_began = time.monotonic()
        assert _code(service) is Code.UNAVAILABLE
        assert time.monotonic() - call_began < 0.1
    assert _predicts(model_server) - before < 3 * 30, "about one trial per second, and retries"
    model_server.error = None
    began = time.monotonic()
    until(lambda: _code(service) is Code.OK)
    assert time.monotonic() - began < 2
    assert {_code(service) for _ in range(20)} == {Code.OK}
