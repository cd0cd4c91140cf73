"""A server that routes calls to handlers, with the methods of ``grpc.aio.Server`` that we use."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import grpc
from grpc._cython.cygrpc import Server as CoreServer

from query_service.transport.call import Call, Handler
from query_service.transport.events import EventQueue

#: The number of calls that core may accept before the loop requests more. At shutdown, core cancels
#: accepted calls that the loop has not requested. With this number, there are hardly any.
_REQUESTED_CALLS = 256


class Server:
    """A gRPC server in the running loop. Add handlers and ports before calling :meth:`start`."""

    def __init__(self, options: Sequence[tuple[str, Any]] = ()) -> None:
        """Create the server. ``options`` are channel arguments of gRPC core."""
        self._core = CoreServer(tuple(options), False)
        self._events = EventQueue()
        self._core.register_completion_queue(self._events.core)
        self._generic_handlers: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[bytes, Handler] = {}
        self._accepting = False

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add methods. All of them must be coroutine functions or asynchronous generators."""
        self._generic_handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Do nothing: generated code adds the same methods as generic handlers."""

    def add_insecure_port(self, address: str) -> int:
        """Listen on ``host:port`` and return the port. Raises RuntimeError if that fails."""
        return self._add_port(address)

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Listen on ``host:port`` with TLS and return the port. Raises RuntimeError if it fails."""
        return self._add_port(address, credentials._credentials)  # type: ignore[attr-defined]

    async def start(self) -> None:
        """Accept calls."""
        self._core.start()
        self._accepting = True
        for _ in range(_REQUESTED_CALLS):
            self._request_call()

    async def stop(self, grace_s: float | None) -> None:
        """Accept no new calls, and cancel those in flight after ``grace_s`` seconds."""
        if self._accepting:
            self._accepting = False
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._core.shutdown(self._events.core, lambda _event: ended.set_result(None))
            await asyncio.wait([ended], timeout=grace_s or 0)
            if not ended.done():
                self._core.cancel_all_calls()
                await ended
        await self._events.close()
        self._core.destroy()

    def _add_port(self, address: str, *credentials: Any) -> int:
        port: int = self._core.add_http2_port(address.encode(), *credentials)
        if not port:
            raise RuntimeError(f"failed to bind to address {address}")
        return port

    def _request_call(self) -> None:
        self._core.request_call(self._events.core, self._events.core, self._handle_call)

    def _handle_call(self, event: Any) -> None:
        if not event.success:
            # The server is shutting down.
            return
        if self._accepting:
            self._request_call()
        Call(event, self._handler(event))

    def _handler(self, event: Any) -> Handler:
        """Return the handler of the method that a call asks for, or None."""
        method = event.call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            # A path may contain bytes that are not UTF-8.
            path = method.decode(errors="replace")
            details: Any = SimpleNamespace(
                method=path, invocation_metadata=event.invocation_metadata
            )
            for generic in self._generic_handlers:
                handler = generic.service(details)
                if handler is not None:
                    self._handlers[method] = handler
                    break
        return handler
