"""Assembles the parts of the service, serves, and shuts down gracefully."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2, health_pb2_grpc

from query_service import stores
from query_service.api.health import HealthMonitor
from query_service.api.interaction_servicer import SERVICE as INTERACTION_SERVICE
from query_service.api.interaction_servicer import InteractionServicer
from query_service.api.methods import Methods
from query_service.api.retrieval_servicer import SERVICE as RETRIEVAL_SERVICE
from query_service.api.retrieval_servicer import RetrievalServicer
from query_service.api.validation import MAX_EXCLUSIONS, Limits
from query_service.backend.batching import BatchingModel
from query_service.backend.cache import CachingModel
from query_service.backend.circuit_breaker import CircuitBreaker
from query_service.backend.fallback import PopularItems
from query_service.backend.tf_serving import TfServingClient
from query_service.core.filters import standard_filters
from query_service.core.retriever import Model, Retriever
from query_service.errors import StartError
from query_service.grpc_server import make_server
from query_service.heartbeat import Heartbeat
from query_service.settings import Settings
from query_service.telemetry import logs, tracing
from query_service.telemetry.decorators import ObservedModel, ObservedSeenStore, observe_predict
from query_service.telemetry.metrics import Metrics
from query_service.telemetry.observer import Observer
from query_service.telemetry.registry import SharedSamples
from query_service.telemetry.request_log import RequestLog
from rpc.addresses import host_port
from rpc.guard import Guard
from rpc.reflection import add_reflection
from rpc.tls import channel_credentials, server_credentials

if TYPE_CHECKING:
    from query_service.telemetry.exporter import Exporter

logger = logging.getLogger(__name__)

#: The maximum size of a request message. A request with 10,000 exclusions of 256 bytes has 2.6 MB.
#: A batch of 256 such requests would not fit, but real batches are much smaller.
MAX_REQUEST_BYTES = 64 * 1024 * 1024

#: gRPC core cancels calls if this many are waiting to be accepted; by default, it cancels some if
#: 1,000 are waiting. We accept every call and answer RESOURCE_EXHAUSTED instead.
_MAX_PENDING_CALLS = 1_000_000

_SHUTDOWN_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server:
    """The service in one process. Call :meth:`start`, then :meth:`stop`.

    Attributes:
        port: The port of the gRPC server, or 0 before it listens.
    """

    def __init__(
        self, settings: Settings, *, samples: SharedSamples | None = None, worker: int = 0
    ) -> None:
        """Create the parts of the service. Must be called in a running event loop.

        Args:
            settings: The settings of the service.
            samples: The shared metrics of all workers; None if there is only one worker.
            worker: The number of this worker, from 0.

        Raises:
            StartError: The trace exporter is unknown, the transport does not work, or a
                certificate, key or token file cannot be used.
            ValueError: The name of the seen store is invalid.
        """
        self._settings = settings
        self._credentials = server_credentials(settings.tls_files)
        self._guard = Guard(settings.tokens, settings.workers) if settings.tokens else None
        self._observer = Observer(
            Metrics(samples, worker),
            tracing.make_tracer(os.environ),
            RequestLog(settings.slow_ms / 1000 if settings.slow_ms else None),
        )
        self._store = stores.open_store(settings.seen_store)
        self._model_server = TfServingClient(
            settings.model_server,
            settings.model,
            credentials=channel_credentials(settings.model_server_tls_files),
            server_name=settings.model_server_name,
            observe_predict=observe_predict(self._observer, settings.model_server),
        )
        self._health = HealthMonitor(
            self._model_server,
            # The empty name stands for the whole server.
            ("", RETRIEVAL_SERVICE),
            self._observer,
            Heartbeat(settings.heartbeat_file),
        )
        options = [
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        ]
        self._server = make_server(settings.chosen_transport, options)
        depth = settings.max_candidates + MAX_EXCLUSIONS
        self._popular = PopularItems(self._model_server, lambda: self._model_server.version, depth)
        self._cache: CachingModel | None = None
        self._background: list[asyncio.Task[None]] = []
        self._exporter: Exporter | None = None
        self.port = 0

    async def start(self) -> None:
        """Open the port. The model server and the seen store may still be unavailable.

        Raises:
            StartError: A port is taken.
        """
        settings = self._settings
        self._add_services()
        # Check the model server before callers can connect. The first check may take a second.
        await self._health.update()
        self.port = self._listen(host_port(settings.host, settings.port))
        if settings.metrics_port:
            # Import the exporter only if it is used, because it takes some megabytes.
            from query_service.telemetry.exporter import Exporter

            self._exporter = Exporter(
                self._observer.metrics.registry,
                settings.metrics_host,
                settings.metrics_port,
                reuse_port=settings.workers > 1,
            )
        await self._server.start()
        background = [self._health.run(), self._observer.metrics.report_process()]
        if settings.fallback == "popular":
            background.append(self._popular.run())
        if self._guard:
            background.append(self._guard.watch())
        self._background = [asyncio.create_task(coroutine) for coroutine in background]

    def _add_services(self) -> None:
        """Add the methods of all services to the gRPC server."""
        settings, observer = self._settings, self._observer
        methods = Methods(
            timeout_s=settings.timeout_s,
            max_concurrent_requests=settings.max_concurrent_requests,
            observer=observer,
            guard=self._guard,
        )
        limits = Limits(settings.default_candidates, settings.max_candidates)
        retrieval = RetrievalServicer(self._retriever(), limits, observer)
        interactions = InteractionServicer(self._store)
        self._server.add_generic_rpc_handlers(
            (
                methods.handler(RETRIEVAL_SERVICE, retrieval.methods),
                methods.handler(INTERACTION_SERVICE, interactions.methods),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._server)
        health_service = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflected = (RETRIEVAL_SERVICE, INTERACTION_SERVICE, health_service)
        add_reflection(self._server, reflected, self._guard)

    def _retriever(self) -> Retriever:
        """Return the retriever with the chain of models between it and the model server."""
        settings, observer = self._settings, self._observer
        breaker = CircuitBreaker(self._model_server)
        batching = BatchingModel(
            breaker,
            settings.model_servers,
            check=breaker.check,
            on_queue_change=observer.metrics.waiting.add,
        )
        model: Model = ObservedModel(batching, observer)
        if settings.cache_size:
            model = self._cache = CachingModel(
                model,
                lambda: self._model_server.version,
                settings.cache_size,
                settings.cache_age_s,
                observer.metrics.count_cache_lookup,
            )
        return Retriever(
            model,
            standard_filters(ObservedSeenStore(self._store, observer)),
            popular_for_unknown_users=settings.unknown_user == "popularity",
            popular_items=lambda: self._popular.ranking,
        )

    def _listen(self, address: str) -> int:
        """Listen on ``host:port``, with TLS if configured, and return the port."""
        try:
            if self._credentials:
                return int(self._server.add_secure_port(address, self._credentials))
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address}: {error}") from error

    async def stop(self) -> None:
        """Shut down gracefully.

        Report NOT_SERVING, keep answering for the lame duck time, then accept no new calls and wait
        for the calls in flight until the grace period ends.
        """
        settings = self._settings
        logger.info(
            "draining: NOT_SERVING; the port closes in %g s, then calls have %g s to end",
            settings.lame_duck_s,
            settings.grace_s,
        )
        await self._health.drain()
        await asyncio.sleep(settings.lame_duck_s)
        self._health.end()
        for task in self._background:
            task.cancel()
        await asyncio.wait(self._background)
        # Another instance may take the metrics port while this one drains.
        if self._exporter:
            self._exporter.close()
        await self._server.stop(settings.grace_s)
        await self._model_server.close()
        await self._store.close()
        if self._cache:
            self._cache.log_hits_and_misses()
        await self._observer.close()


async def serve(
    settings: Settings,
    on_ready: Callable[[int], None],
    *,
    samples: SharedSamples | None = None,
    worker: int = 0,
) -> None:
    """Serve until SIGTERM or SIGINT, and call ``on_ready`` with the port once it is open.

    ``samples`` and ``worker`` are those of :class:`Server`. Raises what its methods raise.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.log_loop_error)
    for number in _SHUTDOWN_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        server = Server(settings, samples=samples, worker=worker)
        await server.start()
        on_ready(server.port)
        await stopped.wait()
        await server.stop()
    finally:
        # Ignore further signals. The closing loop does not handle them, so they would interrupt
        # the rest of the shutdown.
        for number in _SHUTDOWN_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
