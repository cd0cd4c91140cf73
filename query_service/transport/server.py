"""Routes calls to handlers. The methods are those of ``grpc.aio.Server``, as far as in use."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc._cython import cygrpc

from query_service.transport.call import Call, Handler
from query_service.transport.events import EventQueue

#: Calls that core may hand over before the loop has asked for more. At the end it cancels what it
#: has not: so many that this is only what comes in that moment.
_ASKED_FOR = 256


@dataclass
class _CallDetails:
    """What a generic handler is asked with: ``grpc.HandlerCallDetails``."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


class Server:
    """A gRPC server in the running loop. Add handlers and ports, :meth:`start`, :meth:`stop`."""

    def __init__(self, options: Sequence[tuple[str, Any]] = ()) -> None:
        self._events = EventQueue()
        self._core = cygrpc.Server(tuple(options), False)
        self._core.register_completion_queue(self._events.core)
        self._generic_handlers: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[bytes, Handler] = {}
        self._accepting = False

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Methods, all of them coroutines or asynchronous generators."""
        self._generic_handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Nothing to do: generated code adds the same methods as generic handlers."""

    def add_insecure_port(self, address: str) -> int:
        """Listen on ``host:port``; the port, which is chosen where it is 0.

        Raises:
            RuntimeError: it is taken, or there is no such address.
        """
        return self._add_port(address)

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """The same with TLS.

        Raises:
            RuntimeError: it is taken, or there is no such address; or core takes none of the
                certificates.
        """
        return self._add_port(address, credentials._credentials)  # type: ignore[attr-defined]

    async def start(self) -> None:
        """Accept calls."""
        self._core.start()
        self._accepting = True
        for _ in range(_ASKED_FOR):
            self._request_call()

    async def stop(self, grace_s: float | None) -> None:
        """No new calls; those under way are cancelled after the grace period."""
        if self._accepting:
            self._accepting = False
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._core.shutdown(self._events.core, lambda _event: ended.set_result(None))
            _, unended = await asyncio.wait([ended], timeout=grace_s or 0)
            if unended:
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
        self._core.request_call(self._events.core, self._events.core, self._called)

    def _called(self, event: Any) -> None:
        if not event.success:
            return  # The server is shutting down.
        if self._accepting:
            self._request_call()
        Call(event, self._handler(event))

    def _handler(self, event: Any) -> Handler:
        method = event.call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            # A path may be any bytes.
            details = _CallDetails(method.decode(errors="replace"), event.invocation_metadata)
            for generic in self._generic_handlers:
                handler = generic.service(details)
                if handler is not None:
                    self._handlers[method] = handler
                    break
        return handler
