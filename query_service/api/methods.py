"""What all of our methods have in common: from the bytes of a request to an answer or a status.

Methods are registered by hand and get the request's bytes, so that bytes which are no message end
as INVALID_ARGUMENT; gRPC's own deserialisation would say INTERNAL.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from query_service import errors
from query_service.api.wire import LARGE_BYTES
from query_service.telemetry.observer import ObservedMethod, Observer
from query_service.transport import UnaryHandler
from rpc.guard import Guard

_CODES: dict[type[errors.RetrievalError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownQuery: grpc.StatusCode.NOT_FOUND,
    errors.ModelServerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.SignatureMissing: grpc.StatusCode.UNAVAILABLE,
    errors.SeenStoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.RecordingUnsupported: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ModelServerFault: grpc.StatusCode.INTERNAL,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

_TOO_MANY = "too many requests are under way"

Request = TypeVar("Request", bound=Message)
Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True)
class Method(Generic[Request]):
    """One method of a service.

    Attributes:
        request: the type of its request.
        answer: from a request and its deadline, in seconds of ``loop.time()``, to the response's
            bytes. Raises RetrievalError.
        size: how many requests one of them is.
        check: looks at the bytes of a large request before they are parsed. Raises InvalidRequest.
    """

    request: type[Request]
    answer: Callable[[Request, float], Awaitable[bytes]]
    size: Callable[[Request], int] = lambda _: 1
    check: Callable[[bytes], None] | None = None


class Methods:
    """Makes handlers of methods; all of them share one limit of requests under way."""

    def __init__(
        self,
        *,
        timeout_s: float,
        max_concurrent_requests: int,
        observer: Observer,
        guard: Guard | None = None,
    ) -> None:
        """``timeout_s``: the longest that a request may take. Without a guard all may ask."""
        self._observer = observer
        self._guard = guard
        self._timeout_s = timeout_s
        self._free = max_concurrent_requests

    def handler(self, service: str, methods: Mapping[str, Method[Any]]) -> grpc.GenericRpcHandler:
        """What a server needs to route the calls of a service."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: self._handler(method, self._observer.method(service, name, _outcome))
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(service, handlers)

    def _handler(self, method: Method[Any], observed: ObservedMethod) -> UnaryHandler:
        async def behaviour(data: bytes, context: Context) -> bytes:
            try:
                with observed.request(context):
                    return await self._answer(method, data, context)
            except errors.RetrievalError as error:
                await refuse(context, error)
            # A bug: the caller gets no more than that, the log where it was.
            except Exception:  # noqa: BLE001
                await context.abort(grpc.StatusCode.INTERNAL, "internal error")
            raise AssertionError("abort() raises")

        def refusal() -> tuple[grpc.StatusCode, str] | None:
            if self._free > 0:
                return None
            code = _CODES[errors.Overloaded]
            observed.refused(code.name)
            return code, _TOO_MANY

        return UnaryHandler(behaviour, refusal)

    async def _answer(self, method: Method[Any], data: bytes, context: Context) -> bytes:
        # Nothing is done for those who may not ask, do not wait any more, or cannot be served.
        caller = self._guard and self._guard.admit(context.invocation_metadata() or ())
        deadline = self._deadline(context)
        if self._free <= 0:
            raise errors.Overloaded(_TOO_MANY)
        if len(data) > LARGE_BYTES and method.check:
            method.check(data)
        request = _parsed(method.request, data)
        # What is refused for being empty has been asked all the same.
        size = max(1, method.size(request))
        self._free -= size
        try:
            if caller:
                caller.charge(size - 1)
            return await method.answer(request, deadline)
        finally:
            self._free += size

    def _deadline(self, context: Context) -> float:
        """The caller's deadline or our own limit, whichever is first, in loop time.

        Raises:
            OutOfTime: it has passed.
        """
        remaining_s = context.time_remaining()
        if remaining_s == 0.0:
            raise errors.OutOfTime("the deadline passed before the request was looked at")
        limit_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        return asyncio.get_running_loop().time() + limit_s


def status_name(error: errors.RetrievalError) -> str:
    """The status code of an error, as gRPC names it."""
    return _CODES[type(error)].name


def canonical(error: errors.RetrievalError) -> status_pb2.Status:
    """The canonical status of an error.

    A BadRequest detail names a wrong field, RetryInfo says when a limit has room again.
    """
    status = status_pb2.Status(code=_CODES[type(error)].value[0], message=str(error))
    if isinstance(error, errors.ModelServerFault):
        status.message = "internal error"
    if isinstance(error, errors.InvalidRequest):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.description
        )
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if isinstance(error, errors.RateLimited):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(math.ceil(error.retry_after_s * 1e9))
        status.details.append(_packed(retry))
    return status


def _packed(message: Message) -> AnyMessage:
    detail = AnyMessage()
    detail.Pack(message)
    return detail


def _outcome(error: BaseException, context: Context) -> str:
    """The status of a request that ends with an error, as gRPC names it."""
    if isinstance(error, errors.RetrievalError):
        return status_name(error)
    if isinstance(error, asyncio.CancelledError):
        late = context.time_remaining() == 0
        return (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name
    return grpc.StatusCode.INTERNAL.name


async def refuse(context: Context, error: errors.RetrievalError) -> NoReturn:
    """End the call with the error's status. Raises ``grpc.aio.AbortError``."""
    status = canonical(error)
    if status.details:
        await context.abort_with_status(rpc_status.to_status(status))
    # A third of the work: what is refused under overload takes time from what is answered.
    await context.abort(_CODES[type(error)], status.message)
    raise AssertionError("abort() raises")


def _parsed(message: type[Request], data: bytes) -> Request:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise errors.InvalidRequest("request", f"not a {message.DESCRIPTOR.name}") from error
