"""Runs every method, from the bytes of a request to the bytes of a response or a status.

A call is refused without being parsed if its token is invalid, its caller has used up the rate
limit, its deadline has passed, or too many requests are in flight. :class:`Methods` counts the
requests in flight.

The handlers parse requests themselves, so that a request that cannot be parsed ends with
INVALID_ARGUMENT. If gRPC parsed it, the call would end with INTERNAL.
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
        request: The type of the request message.
        answer: Takes a request and its deadline, a ``loop.time()`` value in seconds, and returns
            the bytes of the response. Raises RetrievalError.
        size: Returns the number of requests in a request message, which is 1 unless it is a batch.
        check: Checks the bytes of a large request before they are parsed. Raises InvalidRequest.
    """

    request: type[Request]
    answer: Callable[[Request, float], Awaitable[bytes]]
    size: Callable[[Request], int] = lambda _: 1
    check: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class UnaryHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """A gRPC handler that maps request bytes to response bytes.

    ``refusal`` returns the status with which to refuse the next call, or None to admit it. The fast
    transport calls it before it reads a request. grpc.aio does not, so ``unary_unary`` checks, too.
    """

    unary_unary: Callable[[bytes, Any], Awaitable[bytes]]
    refusal: Callable[[], tuple[grpc.StatusCode, str] | None]
    request_streaming: bool = False
    response_streaming: bool = False
    request_deserializer: None = None
    response_serializer: None = None


class Methods:
    """Creates gRPC handlers for methods. All handlers share one limit on requests in flight."""

    def __init__(
        self,
        *,
        timeout_s: float,
        max_concurrent_requests: int,
        observer: Observer,
        guard: Guard | None = None,
    ) -> None:
        """Limit the duration of a request and the number of requests in flight.

        If there is no ``guard``, all callers are admitted.
        """
        self._observer = observer
        self._guard = guard
        self._timeout_s = timeout_s
        self._free_slots = max_concurrent_requests

    def handler(self, service: str, methods: Mapping[str, Method[Any]]) -> grpc.GenericRpcHandler:
        """Return the handler that routes the calls of a service to its methods."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: self._handler(method, ObservedMethod(self._observer, service, name, _outcome))
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(service, handlers)

    def _handler(self, method: Method[Any], observed: ObservedMethod) -> UnaryHandler:
        async def handle(data: bytes, context: Context) -> bytes:
            try:
                with observed.request(context):
                    return await self._answer(method, data, context)
            except (RetrievalError, CallRefused) as error:
                await abort(context, CODES[type(error)], error_status(error))
            # Any other exception is a bug. The log has the traceback; the caller gets no details.
            except Exception:  # noqa: BLE001
                await context.abort(grpc.StatusCode.INTERNAL, "internal error")
            raise AssertionError("abort() raises")

        def refusal() -> tuple[grpc.StatusCode, str] | None:
            if self._free_slots > 0:
                return None
            code = CODES[Overloaded]
            observed.record_refusal(code.name)
            return code, _OVERLOADED

        return UnaryHandler(handle, refusal)

    async def _answer(self, method: Method[Any], data: bytes, context: Context) -> bytes:
        # Check permission, deadline and free slots first, so that a refusal costs little.
        caller = self._guard and self._guard.admit(context.invocation_metadata() or ())
        deadline = self._deadline(context)
        if self._free_slots <= 0:
            raise Overloaded(_OVERLOADED)
        if len(data) > LARGE_BYTES and method.check:
            method.check(data)
        request = _parse(method.request, data)
        # An empty batch counts as one request until the method refuses it.
        size = max(1, method.size(request))
        self._free_slots -= size
        try:
            if caller:
                caller.charge(size - 1)
            return await method.answer(request, deadline)
        finally:
            self._free_slots += size

    def _deadline(self, context: Context) -> float:
        """Return the loop time of the caller's deadline or of our own limit, whichever is earlier.

        Raises:
            OutOfTime: The caller's deadline has passed.
        """
        remaining_s = context.time_remaining()
        if remaining_s == 0.0:
            raise OutOfTime("the deadline passed before the request was read")
        limit_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        return asyncio.get_running_loop().time() + limit_s


def _outcome(error: BaseException, context: Context) -> str:
    """Return the name of the status code with which an error ends a request."""
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
