"""What all our methods share: from the bytes of a request to the bytes of an answer or a status.

Methods are registered by hand and get the bytes of the request, so that bytes which do not parse
end with INVALID_ARGUMENT. gRPC's own deserialization would end the call with INTERNAL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from query_service.api.statuses import CODES, error_status, status_name
from query_service.api.wire import LARGE_BYTES
from query_service.errors import InvalidRequest, OutOfTime, Overloaded, RetrievalError
from query_service.telemetry.observer import ObservedMethod, Observer
from rpc.errors import CallRefused
from rpc.guard import Guard
from rpc.status import abort

_OVERLOADED = "too many requests are in flight"

Request = TypeVar("Request", bound=Message)
Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True)
class Method(Generic[Request]):
    """One method of a service.

    Attributes:
        request: the type of the request message.
        answer: returns the bytes of the response for a request and its deadline, in seconds of
            ``loop.time()``. Raises RetrievalError.
        size: returns how many requests a request message counts as.
        check: checks the bytes of a large request before they are parsed. Raises InvalidRequest.
    """

    request: type[Request]
    answer: Callable[[Request, float], Awaitable[bytes]]
    size: Callable[[Request], int] = lambda _: 1
    check: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class UnaryHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """A gRPC handler that maps request bytes to response bytes.

    ``refusal`` returns the status with which to refuse the next call, or None to admit it. Our own
    server asks it before it reads a request. grpc.aio does not, so ``unary_unary`` checks as well.
    """

    unary_unary: Callable[[bytes, Any], Awaitable[bytes]]
    refusal: Callable[[], tuple[grpc.StatusCode, str] | None]
    request_streaming: bool = False
    response_streaming: bool = False
    request_deserializer: None = None
    response_serializer: None = None


class Methods:
    """Turns methods into gRPC handlers that share one limit of requests in flight."""

    def __init__(
        self,
        *,
        timeout_s: float,
        max_concurrent_requests: int,
        observer: Observer,
        guard: Guard | None = None,
    ) -> None:
        """Limit the time that a request may take, and the requests in flight.

        Without a ``guard``, all callers are admitted.
        """
        self._observer = observer
        self._guard = guard
        self._timeout_s = timeout_s
        self._free = max_concurrent_requests

    def handler(self, service: str, methods: Mapping[str, Method[Any]]) -> grpc.GenericRpcHandler:
        """Return the handler that routes the calls of a service to its methods."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: self._handler(method, ObservedMethod(self._observer, service, name, _outcome))
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(service, handlers)

    def _handler(self, method: Method[Any], observed: ObservedMethod) -> UnaryHandler:
        async def behaviour(data: bytes, context: Context) -> bytes:
            try:
                with observed.request(context):
                    return await self._answer(method, data, context)
            except (RetrievalError, CallRefused) as error:
                await abort(context, CODES[type(error)], error_status(error))
            # A bug. The log has the traceback, the caller gets no details.
            except Exception:  # noqa: BLE001
                await context.abort(grpc.StatusCode.INTERNAL, "internal error")
            raise AssertionError("abort() raises")

        def refusal() -> tuple[grpc.StatusCode, str] | None:
            if self._free > 0:
                return None
            code = CODES[Overloaded]
            observed.refused(code.name)
            return code, _OVERLOADED

        return UnaryHandler(behaviour, refusal)

    async def _answer(self, method: Method[Any], data: bytes, context: Context) -> bytes:
        # Callers without permission, without time left, or over the limit cost no more than this.
        caller = self._guard and self._guard.admit(context.invocation_metadata() or ())
        deadline = self._deadline(context)
        if self._free <= 0:
            raise Overloaded(_OVERLOADED)
        if len(data) > LARGE_BYTES and method.check:
            method.check(data)
        request = _parse(method.request, data)
        # An empty batch is refused later, but it counts as one request.
        size = max(1, method.size(request))
        self._free -= size
        try:
            if caller:
                caller.charge(size - 1)
            return await method.answer(request, deadline)
        finally:
            self._free += size

    def _deadline(self, context: Context) -> float:
        """Return the caller's deadline or our own limit, whichever is earlier, in loop time.

        Raises:
            OutOfTime: the caller's deadline has passed.
        """
        remaining_s = context.time_remaining()
        if remaining_s == 0.0:
            raise OutOfTime("the deadline passed before the request was read")
        limit_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        return asyncio.get_running_loop().time() + limit_s


def _outcome(error: BaseException, context: Context) -> str:
    """Return the name of the status code of a request that ends with an error."""
    if isinstance(error, RetrievalError | CallRefused):
        return status_name(error)
    if isinstance(error, asyncio.CancelledError):
        out_of_time = context.time_remaining() == 0
        code = grpc.StatusCode.DEADLINE_EXCEEDED if out_of_time else grpc.StatusCode.CANCELLED
        return code.name
    return grpc.StatusCode.INTERNAL.name


def _parse(message: type[Request], data: bytes) -> Request:
    try:
        return message.FromString(data)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise InvalidRequest("request", f"the bytes are not a valid {name}") from error
