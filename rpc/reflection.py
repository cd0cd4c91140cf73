"""grpc.reflection.v1alpha for callers that the guard admits."""

from collections.abc import AsyncIterable, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from rpc.errors import CallRefused
from rpc.guard import Guard
from rpc.status import CODES, abort, refusal_status


def add_reflection(server: Any, services: Sequence[str], guard: Guard | None) -> None:
    """Add reflection of ``services``, and of reflection itself, to a server."""
    servicer = _GuardedServicer([*services, reflection.SERVICE_NAME], guard)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


class _GuardedServicer(reflection_pb2_grpc.ServerReflectionServicer):
    """Passes the requests that the guard admits on to the servicer of grpcio."""

    def __init__(self, services: Sequence[str], guard: Guard | None) -> None:
        self._servicer: Any = reflection.aio.ReflectionServicer(services)
        self._guard = guard

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: AsyncIterable[Any], context: Any
    ) -> AsyncIterable[Any]:
        admitted = self._admitted(request_iterator, context)
        async for answer in self._servicer.ServerReflectionInfo(admitted, context):
            yield answer

    async def _admitted(self, requests: AsyncIterable[Any], context: Any) -> AsyncIterable[Any]:
        """Yield the messages, each of which counts as a request for the rate limit."""
        # The first message is admitted before it is read.
        await self._admit(context)
        is_admitted = True
        async for request in requests:
            if not is_admitted:
                await self._admit(context)
            is_admitted = False
            yield request

    async def _admit(self, context: Any) -> None:
        if self._guard:
            try:
                self._guard.admit(context.invocation_metadata())
            except CallRefused as error:
                await abort(context, CODES[type(error)], refusal_status(error))
