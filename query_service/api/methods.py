"""What all of our methods have in common: from the bytes of a request to an answer or a status.

Methods are registered by hand and get the request's bytes, so that bytes which are no message end
as INVALID_ARGUMENT; gRPC's own deserialisation would say INTERNAL.
"""

from __future__ import annotations

import asyncio
import logging
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
from query_service.access.guard import Guard

logger = logging.getLogger(__name__)

_CODES: dict[type[errors.RetrievalError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownQuery: grpc.StatusCode.NOT_FOUND,
    errors.ModelServerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.SignatureMissing: grpc.StatusCode.UNAVAILABLE,
    errors.SeenStoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ModelServerFault: grpc.StatusCode.INTERNAL,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Request = TypeVar("Request", bound=Message)
Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True)
class Method(Generic[Request]):
    """One method of a service.

    Attributes:
        request: the type of its request.
        answer: from a request and its deadline, in seconds of ``loop.time()``, to the response's
            bytes. Raises RetrievalError.
        size: as how many requests one counts towards the caller's limit; None: each as one.
    """

    request: type[Request]
    answer: Callable[[Request, float], Awaitable[bytes]]
    size: Callable[[Request], int] | None = None


class Methods:
    """Makes handlers of methods; all of them share one limit of requests under way."""

    def __init__(
        self, *, timeout_s: float, max_concurrent_requests: int, guard: Guard | None = None
    ) -> None:
        """``timeout_s``: the longest that a request may take. Without a guard all may ask."""
        self._guard = guard
        self._timeout_s = timeout_s
        self._free = max_concurrent_requests

    def handler(self, service: str, methods: Mapping[str, Method[Any]]) -> grpc.GenericRpcHandler:
        """What a server needs to route the calls of a service."""
        handlers = {name: self._handler(method) for name, method in methods.items()}
        return grpc.method_handlers_generic_handler(service, handlers)

    def _handler(self, method: Method[Any]) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def behaviour(data: bytes, context: Context) -> bytes:
            try:
                return await self._answer(method, data, context)
            except errors.RetrievalError as error:
                await refuse(context, error)
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            # A bug: the caller gets no more than that, the log all of it.
            except Exception:
                logger.exception("a request failed")
                await context.abort(grpc.StatusCode.INTERNAL, "internal error")
            raise AssertionError("abort() raises")

        return grpc.unary_unary_rpc_method_handler(behaviour)

    async def _answer(self, method: Method[Any], data: bytes, context: Context) -> bytes:
        caller = self._guard and self._guard.admit(context.invocation_metadata() or ())
        if self._free <= 0:
            raise errors.Overloaded("too many requests are under way")
        self._free -= 1
        try:
            request = _parsed(method.request, data)
            if caller and method.size:
                caller.charge(method.size(request) - 1)
            return await method.answer(request, self._deadline(context))
        finally:
            self._free += 1

    def _deadline(self, context: Context) -> float:
        """The caller's deadline or our own limit, whichever is first, in loop time."""
        remaining_s = context.time_remaining()
        limit_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        return asyncio.get_running_loop().time() + limit_s


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


async def refuse(context: Context, error: errors.RetrievalError) -> NoReturn:
    """End the call with the error's status. Raises ``grpc.aio.AbortError``."""
    if isinstance(error, errors.ModelServerFault):
        logger.error("the model server broke its contract", exc_info=error)
    await context.abort_with_status(rpc_status.to_status(canonical(error)))
    raise AssertionError("abort_with_status() raises")


def _parsed(message: type[Request], data: bytes) -> Request:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise errors.InvalidRequest("request", f"not a {message.DESCRIPTOR.name}") from error
