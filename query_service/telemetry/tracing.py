"""Whether spans are wanted: OpenTelemetry's own environment variables say so.

On: OTEL_TRACES_EXPORTER is ``otlp`` or ``console``; or it is not set, and
OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is.
Off: all else; OTEL_TRACES_EXPORTER=none; OTEL_SDK_DISABLED=true.
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


def wanted(environment: Mapping[str, str]) -> str | None:
    """The exporter that the environment asks for; None where tracing is off.

    Raises:
        StartError: it asks for one that there is not.
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


def tracer(environment: Mapping[str, str]) -> Tracer | None:
    """What makes spans; None, and nothing imported, where tracing is off.

    Raises:
        StartError: see :func:`wanted`.
    """
    exporter = wanted(environment)
    if exporter is None:
        return None
    from query_service.telemetry.spans import Tracer

    return Tracer(exporter)
