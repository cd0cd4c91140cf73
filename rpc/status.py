"""gRPC status codes and error details of the exceptions in :mod:`rpc.errors`."""

import math
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from rpc.errors import CallRefused, RateLimited, Unauthenticated

CODES: dict[type[Exception], grpc.StatusCode] = {
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def status(code: grpc.StatusCode, message: str, *details: Message) -> status_pb2.Status:
    """Return a ``google.rpc.Status`` with these details."""
    made = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        made.details.append(packed)
    return made


def refusal_status(error: CallRefused) -> status_pb2.Status:
    """Return the status of a refused call. RetryInfo says when a rate limit has room again."""
    if isinstance(error, RateLimited):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(math.ceil(error.retry_after_s * 1e9))
        return status(CODES[type(error)], str(error), retry)
    return status(CODES[type(error)], str(error))


async def abort(context: Any, code: grpc.StatusCode, ended: status_pb2.Status) -> NoReturn:
    """End a call with ``ended``, whose code is ``code``. Raises ``grpc.aio.AbortError``."""
    if ended.details:
        await context.abort_with_status(rpc_status.to_status(ended))
    # A third of the work. Under overload, refusing calls takes time from answering others.
    await context.abort(code, ended.message)
    raise AssertionError("abort() raises")
