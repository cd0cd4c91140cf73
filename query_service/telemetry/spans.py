"""OpenTelemetry spans: one for each request and one for each Predict, without user or item ids.

The attributes follow OpenTelemetry's semantic conventions for RPCs. Attributes that the conventions
do not define begin with ``shortlist.``.
"""

import asyncio
import threading
from collections.abc import Sequence

import grpc
from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from query_service import VERSION

#: Shutdown waits at most this long for an unavailable collector. The supervisor allows more time.
FLUSH_S = 2.0
_SERVICE_NAME = "shortlist-query-service"
_PREDICT_SERVICE = "tensorflow.serving.PredictionService"
#: The statuses that the semantic conventions count as errors of the server.
_SERVER_ERRORS = {
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
}


class Tracer:
    """Creates spans and exports them in the background."""

    def __init__(self, exporter: str) -> None:
        """Export to ``otlp`` or ``console``, as the OTEL_* environment variables configure it."""
        defaults = Resource({"service.name": _SERVICE_NAME, "service.version": VERSION})
        # Attributes from the environment override these defaults.
        resource = Resource.create().merge(defaults).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        self._tracer = self._provider.get_tracer("query_service", VERSION)

    def request(
        self, service: str, method: str, metadata: Sequence[tuple[str, str | bytes]]
    ) -> Span:
        """Start the span of a request, as part of its caller's trace."""
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        return self._tracer.start_span(
            f"{service}/{method}",
            propagate.extract(carrier),
            SpanKind.SERVER,
            {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )

    def predict(
        self, requests: Sequence[Span], address: str, signature: str, depths: Sequence[int]
    ) -> Span:
        """Start the span of a Predict that serves these requests.

        It belongs to the trace of the first sampled request, and links to all sampled requests.

        Args:
            requests: The spans of the requests.
            address: The address of the model server, or several separated by commas.
            signature: The signature that the Predict calls.
            depths: The number of candidates that each query of the Predict fetches.
        """
        sampled = [span for span in requests if span.get_span_context().trace_flags.sampled]
        if not sampled:
            return trace.INVALID_SPAN
        # If there are several servers, gRPC does not say which one it calls.
        host, _, port = (address, "", "") if "," in address else address.rpartition(":")
        span = self._tracer.start_span(
            f"{_PREDICT_SERVICE}/Predict",
            trace.set_span_in_context(sampled[0]),
            SpanKind.CLIENT,
            {
                "rpc.system": "grpc",
                "rpc.service": _PREDICT_SERVICE,
                "rpc.method": "Predict",
                "server.address": host.strip("[]"),
                **({"server.port": int(port)} if port.isdecimal() else {}),
                "shortlist.signature": signature,
                "shortlist.queries": len(depths),
                "shortlist.depth": max(depths),
            },
            [Link(request.get_span_context()) for request in sampled],
        )
        context = span.get_span_context()
        for request in sampled[1:]:
            request.add_link(context)
        return span

    def metadata(self, span: Span) -> tuple[tuple[str, str], ...]:
        """Return the metadata that propagates the trace of a span to the server."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        return tuple(carrier.items())

    def trace_id(self, span: Span) -> str | None:
        """Return the trace id of a span, or None if the span is not sampled."""
        context = span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else None

    def end(self, span: Span, status: str, *, server: bool) -> None:
        """End a span with a gRPC status. ``server`` is True on the server's side of the call."""
        span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[status].value[0])
        is_error = status in _SERVER_ERRORS if server else status != "OK"
        if is_error:
            span.set_status(Status(StatusCode.ERROR, status))
        span.end()

    async def close(self) -> None:
        """Export the remaining spans, and wait at most FLUSH_S seconds for that."""
        loop = asyncio.get_running_loop()
        flushed: asyncio.Future[None] = loop.create_future()

        def flush() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(flushed.set_result, None)

        # The process does not wait for a daemon thread.
        threading.Thread(target=flush, daemon=True).start()
        await asyncio.wait([flushed], timeout=FLUSH_S)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
