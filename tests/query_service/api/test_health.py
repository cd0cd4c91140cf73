"""grpc.health.v1: its protocol, and watchers that misbehave."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.query_service.api import http2
from tests.query_service.conftest import TRANSPORTS, FakeModelServer, Service
from tools.waiting import until

Serve = Callable[..., Service]

_pb: Any = health_pb2
_SERVICE = "retrieval.v1.RetrievalService"
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3
_WATCH = b"/grpc.health.v1.Health/Watch"


@pytest.fixture(params=TRANSPORTS)
def start(request: pytest.FixtureRequest, serve: Serve) -> Serve:
    return lambda **settings: serve(transport=request.param, **settings)


def _stub(service: Service) -> Any:
    return health_pb2_grpc.HealthStub(service.channel)


def _watch(service: Service, name: str = "") -> Any:
    return _stub(service).Watch(health_pb2.HealthCheckRequest(service=name), timeout=30)


@contextmanager
def _stalled_watch(service: Service) -> Iterator[None]:
    """Open a watch whose flow control window leaves no room for any message."""
    host, port = service.address.split(":")
    head = [(name, _WATCH if name == b":path" else value) for name, value in http2.REQUEST_HEADERS]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        zero_window = b"\0\4\0\0\0\0"
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2.frame(http2.SETTINGS, 0, 0, zero_window)
        )
        connection.recv(1)
        connection.sendall(
            http2.frame(http2.SETTINGS, http2.ACK, 0)
            + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.header_block(*head))
            + http2.frame(http2.DATA, http2.END_STREAM, 1, http2.grpc_message(b""))
        )
        time.sleep(0.3)
        yield


def test_check_and_list_report_known_services_only(start: Serve) -> None:
    service = start()
    assert service.health() == service.health(_SERVICE) == _SERVING
    with pytest.raises(grpc.RpcError) as caught:
        service.health("nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    statuses = _stub(service).List(_pb.HealthListRequest(), timeout=5).statuses
    assert {name: one.status for name, one in statuses.items()} == {"": 1, _SERVICE: 1}


def test_watchers_are_notified_of_every_change(start: Serve, model_server: FakeModelServer) -> None:
    service = start()
    unknown = _watch(service, "nothing")
    assert next(unknown).status == _UNKNOWN
    watched = [_watch(service), _watch(service, _SERVICE)]
    assert [next(one).status for one in watched] == [_SERVING] * 2
    for error, status in (((grpc.StatusCode.UNAVAILABLE, "gone"), _NOT_SERVING), (None, _SERVING)):
        model_server.error = error
        assert [next(one).status for one in watched] == [status] * 2
    service.channel.close()


def test_stalled_watcher_delays_nobody(start: Serve, model_server: FakeModelServer) -> None:
    service = start(grace_s=1.0)
    with _stalled_watch(service):
        other = _watch(service)
        assert next(other).status == _SERVING
        model_server.error = (grpc.StatusCode.UNAVAILABLE, "gone")
        until(lambda: service.health() == _NOT_SERVING)
        assert next(other).status == _NOT_SERVING
        model_server.error = None
        until(lambda: service.health() == _SERVING)
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 1.0 + 2


def test_watches_end_before_the_grace_period(start: Serve) -> None:
    service = start(grace_s=15.0)
    with grpc.insecure_channel(service.address) as channel:
        request = health_pb2.HealthCheckRequest()
        health: Any = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(request, timeout=30)
        assert next(watched).status == _SERVING
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 5
        assert [one.status for one in watched] == [_NOT_SERVING]
