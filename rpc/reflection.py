"""grpc.reflection.v1alpha for callers that the guard admits."""

from collections.abc import AsyncIterable, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from rpc.errors import CallRefused
from rpc.guard import Guard
from rpc.status import CODES, abort, refusal_status


def add_reflection(server: Any, services: Sequence[str], guard: Guard | None) -> None:
    """Add the reflection service to a server. It describes ``services`` and itself."""
    servicer = _GuardedServicer([*services, reflection.SERVICE_NAME], guard)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


class _GuardedServicer(reflection_pb2_grpc.ServerReflectionServicer):
    """Passes admitted requests on to grpcio's own servicer."""

    def __init__(self, services: Sequence[str], guard: Guard | None) -> None:
        self._servicer: Any = reflection.aio.ReflectionServicer(services)
        self._guard = guard

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: AsyncIterable[Any], context: Any
    ) -> AsyncIterable[Any]:
        requests = self._admitted_requests(request_iterator, context)
        async for answer in self._servicer.ServerReflectionInfo(requests, context):
            yield answer

    async def _admitted_requests(
        self, requests: AsyncIterable[Any], context: Any
    ) -> AsyncIterable[Any]:
        """Yield the requests, each of which counts against the caller's rate limit."""
        # The first request is admitted before it is read.
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
