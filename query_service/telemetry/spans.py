"""OpenTelemetry's spans: one for each request, one for each Predict. No ids are in them.

Attributes are those of the semantic conventions for RPCs, with our own under ``shortlist.``.
"""

import asyncio
import threading
from collections.abc import Sequence

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from query_service import VERSION
from query_service.telemetry.metrics import STATUSES

#: A collector that is away holds up the end no longer: less than a supervisor's patience.
FLUSH_S = 2.0
_SERVICE_NAME = "shortlist-query-service"
_PREDICT_SERVICE = "tensorflow.serving.PredictionService"
#: Statuses for which a server is to blame, by the semantic conventions.
_SERVER_ERRORS = {
    *("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
}


class Tracer:
    """Makes spans and exports them in the background."""

    def __init__(self, exporter: str) -> None:
        """``exporter``: otlp or console. All else is read from OTEL_* by OpenTelemetry."""
        resource = Resource({"service.name": _SERVICE_NAME, "service.version": VERSION})
        # The environment's names win over ours.
        named = Resource.create()
        if str(named.attributes["service.name"]).startswith("unknown_service"):
            resource = named.merge(resource)
        else:
            resource = resource.merge(named)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
        self._tracer = self._provider.get_tracer("query_service", VERSION)

    def request(
        self, service: str, method: str, metadata: Sequence[tuple[str, str | bytes]]
    ) -> Span:
        """The span of a request, in the trace of its caller."""
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
        """The span of a Predict that was made for these requests.

        It is in the trace of the first one that is sampled, and linked with all of them.
        """
        sampled = [span for span in requests if span.get_span_context().trace_flags.sampled]
        if not sampled:
            return trace.INVALID_SPAN
        # Which of several is asked, gRPC keeps to itself.
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
            [Link(one.get_span_context()) for one in sampled],
        )
        context = span.get_span_context()
        for one in sampled[1:]:
            one.add_link(context)
        return span

    def metadata(self, span: Span) -> tuple[tuple[str, str], ...]:
        """What carries a span's trace to the server that is asked."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        return tuple(carrier.items())

    def trace_id(self, span: Span) -> str | None:
        """Of a span that is sampled; None where it is not."""
        context = span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else None

    def end(self, span: Span, status: str, *, server: bool) -> None:
        """End a span with a gRPC status."""
        span.set_attribute("rpc.grpc.status_code", STATUSES.index(status))
        if status in _SERVER_ERRORS if server else status != "OK":
            span.set_status(Status(StatusCode.ERROR, status))
        span.end()

    async def close(self) -> None:
        """Export what is left, for FLUSH_S at the most."""
        loop = asyncio.get_running_loop()
        flushed: asyncio.Future[None] = loop.create_future()

        def flush() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(flushed.set_result, None)

        # A daemon: the process does not wait for it.
        threading.Thread(target=flush, daemon=True).start()
        await asyncio.wait([flushed], timeout=FLUSH_S)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
