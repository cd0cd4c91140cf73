"""The HTTP port for Prometheus. Every worker answers with the values of all workers."""

import itertools
import platform
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from socketserver import TCPServer
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from query_service import VERSION
from query_service.errors import StartError
from query_service.telemetry.registry import MetricRegistry, Series
from rpc.addresses import host_port

#: A connection on which the client sends nothing for this long is closed.
_IDLE_TIMEOUT_S = 10.0


class Exporter:
    """Serves the metrics at ``http://host:port/metrics``, from a thread."""

    def __init__(self, registry: MetricRegistry, host: str, port: int, *, reuse_port: bool) -> None:
        """Listen on a port, which other workers may share if ``reuse_port`` is set.

        Raises:
            StartError: The port is taken, or the host is unknown.
        """
        collectors = CollectorRegistry()
        collectors.register(_Collector(registry))
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, (str(address[0]), port), reuse_port)
        except OSError as error:
            reason = f"cannot listen on {host_port(host, port)}: {error.strerror}"
            raise StartError(reason) from error
        # Compression would block the event loop for longer than it saves in transfer.
        self._server.set_app(make_wsgi_app(collectors, disable_compression=True))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Do not log scrapes."""


class _Server(ThreadingWSGIServer):
    def __init__(self, family: int, host_and_port: tuple[str, int], reuse_port: bool) -> None:
        self.address_family = family
        self.allow_reuse_port = reuse_port
        super().__init__(host_and_port, _Handler)

    def server_bind(self) -> None:
        """Bind without looking up the name of this machine, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Collector(Collector):
    """Converts our metrics to prometheus_client metrics."""

    def __init__(self, registry: MetricRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics with their current values."""
        series_by_name = defaultdict(list)
        for series in self._registry.series:
            series_by_name[series.name].append(series)
        for all_series in series_by_name.values():
            yield self._metric(all_series)
            # Let the event loop's thread run between two metrics.
            time.sleep(0)
        build = {"version": VERSION, "python": platform.python_version()}
        yield InfoMetricFamily("shortlist_build", "Versions of the service and of Python.", build)

    def _metric(self, all_series: list[Series]) -> Metric:
        """Return the metric that consists of these series."""
        first = all_series[0]
        metric = Metric(first.name.removesuffix("_total"), first.text, first.kind)
        for series in all_series:
            name, labels = series.name, series.labels
            total, *counts = self._registry.totals(series)
            if series.kind != "histogram":
                metric.add_sample(name, labels, total)
                continue
            # The buckets of Prometheus are cumulative.
            cumulative = list(itertools.accumulate(counts))
            bounds = [*map(str, series.bounds), "+Inf"]
            for bound, count in zip(bounds, cumulative, strict=True):
                metric.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
            metric.add_sample(f"{name}_count", labels, cumulative[-1])
            metric.add_sample(f"{name}_sum", labels, total)
        return metric
