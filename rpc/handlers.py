"""A unary gRPC handler that can refuse calls before any work is done for them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True)
class UnaryHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """A method that maps request bytes to response bytes.

    Attributes:
        unary_unary: the coroutine function that answers. It gets the request and the context.
        refusal: returns the status with which to refuse the next call, or None to admit it. A
            server that knows it asks before it reads the request. grpc.aio does not, so
            ``unary_unary`` has to check for itself as well.
    """

    unary_unary: Callable[[bytes, Any], Awaitable[bytes]]
    refusal: Callable[[], tuple[grpc.StatusCode, str] | None]
    request_streaming: bool = False
    response_streaming: bool = False
    request_deserializer: None = None
    response_serializer: None = None
