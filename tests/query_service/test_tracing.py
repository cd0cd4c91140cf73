"""Traces: a real service process, a real OTLP collector."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from query_service.errors import StartError
from query_service.telemetry.tracing import wanted
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tests.conftest import ROOT, running
from tests.query_service.conftest import FakeModelServer
from tools.waiting import until

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_CALLER = "b7ad6b7169203331"


class Collector(otlp_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []
        self.spans: list[trace_pb2.Span] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        otlp_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(  # noqa: N802
        self, request: otlp.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> otlp.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            self.resources.append(_attributes(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return otlp.ExportTraceServiceResponse()

    def of_kind(self, kind: int) -> list[trace_pb2.Span]:
        return [span for span in self.spans if span.kind == kind]

    def stop(self) -> None:
        self._server.stop(None).wait()


def _attributes(pairs: Sequence[Any]) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in pairs}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    yield collector
    collector.stop()


@contextlib.contextmanager
def _serving(
    model_server: FakeModelServer, *more: str
) -> Iterator[tuple[pb_grpc.RetrievalServiceStub, "subprocess.Popen[str]"]]:
    """A service process, which has drained when the block is left."""
    upstream = ("--model-server", f"127.0.0.1:{model_server.port}")
    arguments = ("serve", "--port", "0", *upstream, "--timeout-s", "5", *more)
    with (
        running("query_service", *arguments) as (address, process),
        grpc.insecure_channel(address) as channel,
    ):
        yield pb_grpc.RetrievalServiceStub(channel), process
        process.terminate()
        assert process.wait(10) == 0


_SAMPLED = (("traceparent", f"00-{_TRACE}-{_CALLER}-01"),)


@pytest.fixture
def seen_metadata(model_server: FakeModelServer) -> list[dict[str, str]]:
    """The metadata of each Predict that the model server gets."""
    found: list[dict[str, str]] = []
    model_server.called = lambda context: found.append(dict(context.invocation_metadata()))
    return found


def test_a_request_continues_its_callers_trace(
    collector: Collector, model_server: FakeModelServer, seen_metadata: list[dict[str, str]]
) -> None:
    with _serving(model_server) as (stub, _):
        stub.Retrieve(pb.RetrieveRequest(user_id="secret-user"), metadata=_SAMPLED)
    # All of this arrives at the drain at the latest.
    [server] = collector.of_kind(trace_pb2.Span.SPAN_KIND_SERVER)
    assert server.name == "retrieval.v1.RetrievalService/Retrieve"
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (_TRACE, _CALLER)
    assert _attributes(server.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "retrieval.v1.RetrievalService",
        "rpc.method": "Retrieve",
        "rpc.grpc.status_code": 0,
    }
    [client] = collector.of_kind(trace_pb2.Span.SPAN_KIND_CLIENT)
    assert client.name == "tensorflow.serving.PredictionService/Predict"
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    attributes = _attributes(client.attributes)
    assert attributes["server.port"] == model_server.port
    assert attributes["rpc.grpc.status_code"] == 0
    assert (attributes["shortlist.queries"], attributes["shortlist.depth"]) == (1, 100)
    assert seen_metadata[-1]["traceparent"] == f"00-{_TRACE}-{client.span_id.hex()}-01"
    assert collector.resources[0]["service.name"] == "shortlist-query-service"
    assert b"secret-user" not in b"".join(one.SerializeToString() for one in collector.spans)


def test_a_predict_is_linked_with_all_its_requests(
    collector: Collector, model_server: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "candidates")
    model_server.delay_s = 0.5
    with _serving(model_server) as (stub, _):
        first = stub.Retrieve.future(pb.RetrieveRequest(user_id="u0"))
        until(lambda: len(model_server.signatures) == 1)
        # These wait for the first one's Predict, and go into the next one.
        others = [stub.Retrieve.future(pb.RetrieveRequest(user_id=f"u{n}")) for n in range(1, 4)]
        for call in (first, *others):
            call.result(10)
    servers = {one.span_id: one for one in collector.of_kind(trace_pb2.Span.SPAN_KIND_SERVER)}
    alone, joined = sorted(
        collector.of_kind(trace_pb2.Span.SPAN_KIND_CLIENT), key=lambda span: len(span.links)
    )
    assert [len(alone.links), len(joined.links)] == [1, 3]
    assert {one.span_id for one in (*alone.links, *joined.links)} == set(servers)
    assert joined.parent_span_id == joined.links[0].span_id
    # And from the others, whose trace is another one, to the Predict.
    for link in joined.links[1:]:
        assert [one.span_id for one in servers[link.span_id].links] == [joined.span_id]
    assert collector.resources[0]["service.name"] == "candidates"


def test_failures(collector: Collector, model_server: FakeModelServer) -> None:
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "away")
    with _serving(model_server) as (stub, _):
        for request in (pb.RetrieveRequest(user_id="u"), pb.RetrieveRequest()):
            with pytest.raises(grpc.RpcError):
                stub.Retrieve(request)
    away, wrong = sorted(
        collector.of_kind(trace_pb2.Span.SPAN_KIND_SERVER),
        key=lambda span: -_attributes(span.attributes)["rpc.grpc.status_code"],
    )
    error = trace_pb2.Status.STATUS_CODE_ERROR
    assert _attributes(away.attributes)["rpc.grpc.status_code"] == 14
    assert away.status.code == error
    # The caller's fault is none of the server's.
    assert _attributes(wrong.attributes)["rpc.grpc.status_code"] == 3
    assert wrong.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    clients = collector.of_kind(trace_pb2.Span.SPAN_KIND_CLIENT)
    assert clients
    assert {one.status.code for one in clients} == {error}


def test_what_the_caller_does_not_sample_is_not_exported(
    collector: Collector, model_server: FakeModelServer, seen_metadata: list[dict[str, str]]
) -> None:
    unsampled = (("traceparent", f"00-{_TRACE}-{_CALLER}-00"),)
    with _serving(model_server) as (stub, _):
        stub.Retrieve(pb.RetrieveRequest(user_id="u"), metadata=unsampled)
    assert not collector.spans
    assert "traceparent" not in seen_metadata[-1]


def test_workers_export_their_spans(collector: Collector, model_server: FakeModelServer) -> None:
    with _serving(model_server, "--workers", "2") as (stub, _):
        for _ in range(3):
            stub.Retrieve(pb.RetrieveRequest(user_id="u"))
    assert len(collector.of_kind(trace_pb2.Span.SPAN_KIND_SERVER)) == 3


def test_a_collector_that_is_away_harms_nothing(
    model_server: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with _serving(model_server) as (stub, _):
        assert stub.Retrieve(pb.RetrieveRequest(user_id="u"), timeout=5).model_version == 7


def test_nothing_of_opentelemetry_is_imported_where_it_is_off(
    model_server: FakeModelServer,
) -> None:
    code = f"""
import asyncio, sys
from query_service.server import Server
from query_service.settings import Settings

async def run():
    server = Server(Settings(port=0, model_server="127.0.0.1:{model_server.port}"))
    await server.start()
    await server.stop()

asyncio.run(run())
found = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(found & {{"opentelemetry", "prometheus_client"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize(
    ("environment", "exporter"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_what_switches_it_on(environment: dict[str, str], exporter: str | None) -> None:
    assert wanted(environment) == exporter


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_what_there_is_not_is_an_error_at_the_start(environment: dict[str, str]) -> None:
    with pytest.raises(StartError, match=list(environment)[-1]):
        wanted(environment)
