"""Decides from OpenTelemetry's environment variables whether spans are exported.

Tracing is on if OTEL_TRACES_EXPORTER is ``otlp`` or ``console``, or if it is not set and
OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set.
OTEL_SDK_DISABLED=true switches it off in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from query_service.errors import StartError

if TYPE_CHECKING:
    from query_service.telemetry.spans import Tracer

_EXPORTERS = ("otlp", "console")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def requested_exporter(environment: Mapping[str, str]) -> str | None:
    """Return the exporter that the environment asks for, or None if tracing is off.

    Raises:
        StartError: The environment asks for an exporter or a protocol that is not supported.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not exporter and any(environment.get(name) for name in _ENDPOINTS):
        exporter = "otlp"
    if exporter in ("", "none"):
        return None
    if exporter not in _EXPORTERS:
        raise StartError(
            f"OTEL_TRACES_EXPORTER must be {', '.join(_EXPORTERS)} or none, not {exporter!r}"
        )
    for name in _PROTOCOLS:
        if exporter == "otlp" and environment.get(name, "") not in ("", "grpc"):
            raise StartError(f"{name} must be grpc, not {environment[name]!r}")
    return exporter


def make_tracer(environment: Mapping[str, str]) -> Tracer | None:
    """Return a tracer, or None if tracing is off. Raises what requested_exporter() raises."""
    exporter = requested_exporter(environment)
    if exporter is None:
        return None
    # OpenTelemetry is imported only if tracing is on.
    from query_service.telemetry.spans import Tracer

    return Tracer(exporter)
