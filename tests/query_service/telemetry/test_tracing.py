"""A service process sends its traces to an OTLP collector."""

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
from query_service.telemetry.tracing import requested_exporter
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tests.conftest import running
from tests.query_service.conftest import FakeModelServer
from tools.processes import ROOT
from tools.waiting import until

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_CALLER = "b7ad6b7169203331"


class Collector(otlp_grpc.TraceServiceServicer):
    """Collects spans."""

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
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


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
    """Run a service process; it has shut down gracefully when the block is left."""
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
def received_metadata(model_server: FakeModelServer) -> list[dict[str, str | bytes]]:
    """The metadata of each Predict that the model server receives."""
    found: list[dict[str, str | bytes]] = []
    model_server.called = lambda context: found.append(dict(context.invocation_metadata()))
    return found


def test_request_continues_the_trace_of_its_caller(
    collector: Collector, model_server: FakeModelServer, received_metadata: list[dict[str, str]]
) -> None:
    with _serving(model_server) as (stub, _):
        stub.Retrieve(pb.RetrieveRequest(user_id="secret-user"), metadata=_SAMPLED)
    # Shutdown exports all spans.
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
    assert received_metadata[-1]["traceparent"] == f"00-{_TRACE}-{client.span_id.hex()}-01"
    assert collector.resources[0]["service.name"] == "shortlist-query-service"
    assert b"secret-user" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_predict_is_linked_with_all_of_its_requests(
    collector: Collector, model_server: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "candidates")
    model_server.delay_s = 0.5
    with _serving(model_server) as (stub, _):
        first = stub.Retrieve.future(pb.RetrieveRequest(user_id="u0"))
        until(lambda: len(model_server.signatures) == 1)
        # These arrive during the first Predict and share the next one.
        others = [stub.Retrieve.future(pb.RetrieveRequest(user_id=f"u{n}")) for n in range(1, 4)]
        for call in (first, *others):
            call.result(10)
    servers = {span.span_id: span for span in collector.of_kind(trace_pb2.Span.SPAN_KIND_SERVER)}
    single, batched = sorted(
        collector.of_kind(trace_pb2.Span.SPAN_KIND_CLIENT), key=lambda span: len(span.links)
    )
    assert [len(single.links), len(batched.links)] == [1, 3]
    assert {link.span_id for link in (*single.links, *batched.links)} == set(servers)
    assert batched.parent_span_id == batched.links[0].span_id
    # The requests with other traces are linked with the Predict.
    for link in batched.links[1:]:
        assert [back.span_id for back in servers[link.span_id].links] == [batched.span_id]
    assert collector.resources[0]["service.name"] == "candidates"


def test_spans_have_the_status_of_failures(
    collector: Collector, model_server: FakeModelServer
) -> None:
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "unavailable")
    with _serving(model_server) as (stub, _):
        for request in (pb.RetrieveRequest(user_id="u"), pb.RetrieveRequest()):
            with pytest.raises(grpc.RpcError):
                stub.Retrieve(request)
    unavailable, invalid = sorted(
        collector.of_kind(trace_pb2.Span.SPAN_KIND_SERVER),
        key=lambda span: -_attributes(span.attributes)["rpc.grpc.status_code"],
    )
    error = trace_pb2.Status.STATUS_CODE_ERROR
    assert _attributes(unavailable.attributes)["rpc.grpc.status_code"] == 14
    assert unavailable.status.code == error
    # An error of the caller is not an error of the server.
    assert _attributes(invalid.attributes)["rpc.grpc.status_code"] == 3
    assert invalid.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    clients = collector.of_kind(trace_pb2.Span.SPAN_KIND_CLIENT)
    assert clients
    assert {span.status.code for span in clients} == {error}


def test_unsampled_traces_are_not_exported(
    collector: Collector, model_server: FakeModelServer, received_metadata: list[dict[str, str]]
) -> None:
    unsampled = (("traceparent", f"00-{_TRACE}-{_CALLER}-00"),)
    with _serving(model_server) as (stub, _):
        stub.Retrieve(pb.RetrieveRequest(user_id="u"), metadata=unsampled)
    assert not collector.spans
    assert "traceparent" not in received_metadata[-1]


def test_workers_export_their_spans(collector: Collector, model_server: FakeModelServer) -> None:
    with _serving(model_server, "--workers", "2") as (stub, _):
        for _ in range(3):
            stub.Retrieve(pb.RetrieveRequest(user_id="u"))
    assert len(collector.of_kind(trace_pb2.Span.SPAN_KIND_SERVER)) == 3


def test_unavailable_collector_does_not_affect_requests(
    model_server: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with _serving(model_server) as (stub, _):
        assert stub.Retrieve(pb.RetrieveRequest(user_id="u"), timeout=5).model_version == 7


def test_opentelemetry_is_not_imported_while_tracing_is_off(
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
def test_environment_selects_the_exporter(
    environment: dict[str, str], exporter: str | None
) -> None:
    assert requested_exporter(environment) == exporter


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_unsupported_exporter_or_protocol_fails_at_startup(environment: dict[str, str]) -> None:
    with pytest.raises(StartError, match=list(environment)[-1]):
        requested_exporter(environment)
