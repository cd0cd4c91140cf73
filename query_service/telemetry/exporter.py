"""The port that Prometheus reads. Any worker's answer is that of all of them."""

import itertools
import platform
import socket
import threading
import time
from collections.abc import Iterator
from socketserver import TCPServer, ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from query_service import VERSION
from query_service.errors import StartError
from query_service.telemetry.instruments import AnyFamily, Gauge, Histogram, Sheet
from rpc.addresses import host_port

#: A client that sends nothing holds a thread no longer.
_SILENCE_S = 10.0


class Exporter:
    """Serves a sheet at ``http://host:port/metrics``, from a thread."""

    def __init__(self, sheet: Sheet, host: str, port: int, *, reuse_port: bool) -> None:
        """Listen.

        Raises:
            StartError: the port is taken, or there is no such host.
        """
        registry = CollectorRegistry()
        registry.register(_Reader(sheet))
        try:
            family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, (str(place[0]), port), reuse_port)
        except OSError as error:
            where = host_port(host, port)
            raise StartError(f"cannot listen on {where}: {error.strerror}") from error
        # Compression would hold up the loop for longer than it saves on the way.
        self._server.set_app(make_wsgi_app(registry, disable_compression=True))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Scrapes are no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, family: int, place: tuple[str, int], reuse_port: bool) -> None:
        self.address_family = family
        self.allow_reuse_port = reuse_port
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking anyone for this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Reader(Collector):
    """The numbers as Prometheus's client wants them."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        for family in self._sheet.families:
            yield self._metric(family)
            # The loop's thread waits no longer than for one of them.
            time.sleep(0)
        build = {"version": VERSION, "python": platform.python_version()}
        yield InfoMetricFamily("shortlist_build", "What is running.", build)

    def _metric(self, family: AnyFamily) -> Metric:
        if family.kind is Histogram:
            return self._histogram(family)
        kind = GaugeMetricFamily if family.kind is Gauge else CounterMetricFamily
        metric: GaugeMetricFamily | CounterMetricFamily = kind(
            family.name, family.text, labels=family.labels
        )
        for values, instrument in family.children.items():
            metric.add_metric(values, self._sheet.totals(family, instrument)[0])
        return metric

    def _histogram(self, family: AnyFamily) -> Metric:
        metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        for values, instrument in family.children.items():
            sum_, *counts = self._sheet.totals(family, instrument)
            bounds = [*map(str, instrument.bounds), "+Inf"]
            buckets = list(zip(bounds, itertools.accumulate(counts), strict=True))
            metric.add_metric(values, buckets, sum_)
        return metric
