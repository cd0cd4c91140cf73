"""retrieval.v1.RetrievalService: the only module here that speaks status codes.

Its methods are registered by hand and get the request's bytes, so that bytes which are
no message end as INVALID_ARGUMENT; gRPC's own deserialisation would say INTERNAL.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from query_service import errors, validation
from query_service.encoding import encoded
from query_service.retrieval import Retriever
from query_service.validation import Limits
from retrieval.v1 import retrieval_service_pb2 as pb

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name

_CODES: dict[type[errors.RetrievalError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownQuery: grpc.StatusCode.NOT_FOUND,
    errors.ModelServerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.SignatureMissing: grpc.StatusCode.UNAVAILABLE,
    errors.SeenStoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ModelServerFault: grpc.StatusCode.INTERNAL,
}

Request = TypeVar("Request", bound=Message)
Context = grpc.aio.ServicerContext[bytes, bytes]


class RetrievalServicer:
    """Request in, answer or status out."""

    def __init__(
        self,
        retriever: Retriever,
        limits: Limits,
        *,
        timeout_s: float,
        max_concurrent_requests: int,
    ) -> None:
        self._retriever = retriever
        self._limits = limits
        self._timeout_s = timeout_s
        self._free = max_concurrent_requests

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server needs to route calls here."""
        methods = {
            "Retrieve": self._method(pb.RetrieveRequest, self._retrieve),
            "BatchRetrieve": self._method(pb.BatchRetrieveRequest, self._batch_retrieve),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _retrieve(self, request: pb.RetrieveRequest, deadline: float) -> bytes:
        query = validation.query(request, self._limits)
        return encoded(await self._retriever.retrieve(query, deadline))

    async def _batch_retrieve(self, request: pb.BatchRetrieveRequest, deadline: float) -> bytes:
        validation.check_batch(request)
        answers = [self._outcome(one, deadline) for one in request.requests]
        response = pb.BatchRetrieveResponse()
        for outcome in await asyncio.gather(*answers):
            result = response.results.add()
            if isinstance(outcome, errors.RetrievalError):
                result.error.CopyFrom(_status(outcome))
            else:
                result.response.MergeFromString(outcome)
        return response.SerializeToString()

    async def _outcome(
        self, request: pb.RetrieveRequest, deadline: float
    ) -> bytes | errors.RetrievalError:
        """One of a batch: its failure is its own."""
        try:
            return await self._retrieve(request, deadline)
        except errors.RetrievalError as error:
            return error

    def _method(
        self,
        message: type[Request],
        answer: Callable[[Request, float], Awaitable[bytes]],
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def behaviour(data: bytes, context: Context) -> bytes:
            try:
                if self._free <= 0:
                    raise errors.Overloaded("too many requests are under way")
                self._free -= 1
                try:
                    return await answer(_parsed(message, data), self._deadline(context))
                finally:
                    self._free += 1
            except errors.RetrievalError as error:
                if isinstance(error, errors.ModelServerFault):
                    logger.exception("the model server broke its contract")
                await context.abort_with_status(rpc_status.to_status(_status(error)))
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            # A bug: the caller gets no more than that, the log all of it.
            except Exception:
                logger.exception("a request failed")
                await context.abort(grpc.StatusCode.INTERNAL, "internal error")
            raise AssertionError("abort() raises")

        return grpc.unary_unary_rpc_method_handler(behaviour)

    def _deadline(self, context: Context) -> float:
        """The caller's deadline or our own limit, whichever is first, in loop time."""
        remaining_s = context.time_remaining()
        limit_s = self._timeout_s if remaining_s is None else min(remaining_s, self._timeout_s)
        return asyncio.get_running_loop().time() + limit_s


def _parsed(message: type[Request], data: bytes) -> Request:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise errors.InvalidRequest("request", f"not a {message.DESCRIPTOR.name}") from error


def _status(error: errors.RetrievalError) -> status_pb2.Status:
    """The canonical status of an error; a BadRequest detail names a wrong field."""
    status = status_pb2.Status(code=_CODES[type(error)].value[0], message=str(error))
    if isinstance(error, errors.ModelServerFault):
        status.message = "internal error"
    if isinstance(error, errors.InvalidRequest):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.description
        )
        detail = AnyMessage()
        detail.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        status.details.append(detail)
    return status
