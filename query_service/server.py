"""Puts the parts together, serves, and drains when told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from query_service import stores as seen_store
from query_service import transport as runtime
from query_service.api.health import HealthMonitor
from query_service.api.interaction_servicer import SERVICE as INTERACTIONS
from query_service.api.interaction_servicer import InteractionServicer
from query_service.api.methods import Methods
from query_service.api.retrieval_servicer import SERVICE, RetrievalServicer
from query_service.api.validation import MAX_EXCLUSIONS
from query_service.backend.batching import JoiningModel
from query_service.backend.cache import CachingModel
from query_service.backend.circuit_breaker import BreakingModel
from query_service.backend.fallback import PopularItems
from query_service.backend.tf_serving import TfServingClient
from query_service.core.filters import standard_filters
from query_service.core.retriever import Model, Retriever
from query_service.errors import StartError
from query_service.process.memory import tend_garbage
from query_service.process.sockets import address
from query_service.settings import Settings
from query_service.telemetry import logs as log_format
from query_service.telemetry import tracing
from query_service.telemetry.metrics import Metrics
from query_service.telemetry.observer import ObservedSeenStore, Observer
from query_service.telemetry.process_metrics import tell_process
from query_service.telemetry.request_log import RequestLog
from query_service.telemetry.shared_samples import Rows
from rpc.guard import Guard
from rpc.reflection import add_reflection
from rpc.tls import channel_credentials, server_credentials

if TYPE_CHECKING:
    from query_service.telemetry.exporter import Exporter

logger = logging.getLogger(__name__)

#: 10,000 exclusions of 256 bytes are 2.6 MB; a batch of 256 has room for more.
MAX_REQUEST_BYTES = 64 * 1024 * 1024

#: Beyond so many calls that nobody has looked at yet gRPC itself cancels some, at random from 1,000
#: on by default. We look at each and say RESOURCE_EXHAUSTED.
_MANY = 1_000_000

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Server:
    """A running service. :meth:`start`, then :meth:`stop`."""

    def __init__(self, settings: Settings, *, rows: Rows | None = None, worker: int = 0) -> None:
        """Make the parts; inside a running event loop.

        ``rows`` are those of all the workers that share the ports, of which this is ``worker``.

        Raises:
            StartError: the environment asks for traces that there are not.
            ValueError: there is no such seen store.
            UnusableFile: a file of certificates, keys or tokens.
        """
        self._settings = settings
        self._credentials = server_credentials(settings)
        self._guard = Guard(settings.tokens, settings.workers) if settings.tokens else None
        self._observer = Observer(
            Metrics(rows, worker),
            tracing.tracer(os.environ),
            RequestLog(settings.slow_ms / 1000 if settings.slow_ms else None),
        )
        self._store = seen_store.open_store(settings.seen_store)
        self._model = TfServingClient(
            settings.model_server,
            settings.model,
            self._observer,
            channel_credentials(settings),
            settings.model_server_name,
        )
        self._health = HealthMonitor(self._model, ("", SERVICE), self._observer)
        options = [
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.server.max_pending_requests", _MANY),
            ("grpc.server.max_pending_requests_hard_limit", _MANY),
        ]
        self._server: Any = (
            runtime.Server(options)
            if settings.runtime == "core"
            else grpc.aio.server(options=options)
        )
        self._cache: CachingModel | None = None
        self._background: list[asyncio.Task[None]] = []
        self._exporter: Exporter | None = None
        self.port = 0

    async def start(self) -> None:
        """Open the port. The model server and the store may come later.

        Raises:
            StartError: the port is taken.
        """
        settings = self._settings
        observer = self._observer
        breaking = BreakingModel(self._model)
        model: Model = JoiningModel(
            breaking, settings.model_servers, observer=observer, check=breaking.check
        )
        if settings.cache_size:
            model = self._cache = CachingModel(
                model,
                lambda: self._model.version,
                settings.cache_size,
                settings.cache_age_s,
                observer,
            )
        deepest = settings.max_candidates + MAX_EXCLUSIONS
        popular = PopularItems(self._model, lambda: self._model.version, deepest)
        retriever = Retriever(
            model,
            standard_filters(ObservedSeenStore(self._store, observer)),
            popular_for_unknown_users=settings.unknown_user == "popularity",
            popular_items=lambda: popular.row,
        )
        methods = Methods(
            timeout_s=settings.timeout_s,
            max_concurrent_requests=settings.max_concurrent_requests,
            observer=observer,
            guard=self._guard,
        )
        servicer = RetrievalServicer(retriever, settings.limits, observer)
        self._server.add_generic_rpc_handlers((methods.handler(SERVICE, servicer.methods),))
        interactions = InteractionServicer(self._store)
        self._server.add_generic_rpc_handlers(
            (methods.handler(INTERACTIONS, interactions.methods),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        add_reflection(self._server, (SERVICE, INTERACTIONS, health_name), self._guard)
        # Before anyone can connect: it may take a second.
        await self._health.update()
        where = address(settings.host, settings.port)
        try:
            self.port = (
                self._server.add_secure_port(where, self._credentials)
                if self._credentials
                else self._server.add_insecure_port(where)
            )
        except RuntimeError as error:
            raise StartError(f"cannot listen on {where}: {error}") from error
        if settings.metrics_port:
            # Some megabytes, for those who want it.
            from query_service.telemetry.exporter import Exporter

            self._exporter = Exporter(
                observer.metrics.sheet,
                settings.metrics_host,
                settings.metrics_port,
                reuse_port=settings.workers > 1,
            )
        await self._server.start()
        self._background.append(asyncio.create_task(self._health.run()))
        self._background.append(asyncio.create_task(tell_process(observer.metrics)))
        if settings.fallback == "popular":
            self._background.append(asyncio.create_task(popular.run()))
        if self._guard:
            self._background.append(asyncio.create_task(self._guard.watch()))

    async def stop(self) -> None:
        """NOT_SERVING; after the lame duck time no new calls, those under way have their grace."""
        settings = self._settings
        logger.info(
            "draining: NOT_SERVING, the port closes after %g s, and calls under way have %g s",
            *(settings.lame_duck_s, settings.grace_s),
        )
        await self._health.drain()
        await asyncio.sleep(settings.lame_duck_s)
        self._health.end()
        for task in self._background:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        # The next service may have its port while this one drains.
        if self._exporter:
            self._exporter.close()
        await self._server.stop(settings.grace_s)
        await self._model.close()
        await self._store.close()
        if self._cache:
            self._cache.log()
        await self._observer.close()


async def serve(
    settings: Settings,
    ready: Callable[[int], None],
    *,
    rows: Rows | None = None,
    worker: int = 0,
) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is told the port when it is open."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_format.loop_failed)
    for number in _ENDING:
        loop.add_signal_handler(number, stopped.set)
    try:
        server = Server(settings, rows=rows, worker=worker)
        await server.start()
        tending = asyncio.create_task(tend_garbage())
        ready(server.port)
        await stopped.wait()
        tending.cancel()
        await server.stop()
    finally:
        # On the way out already: a loop that closes cannot be told anything more.
        for number in _ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
