"""grpc.reflection.v1alpha, for those who may ask."""

from collections.abc import AsyncIterable, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from query_service.api.methods import refuse
from query_service.errors import RetrievalError
from rpc.guard import Guard


def add_reflection(server: Any, services: Sequence[str], guard: Guard | None) -> None:
    """Have a server say what these services, and reflection itself, look like."""
    servicer = _Servicer((*services, reflection.SERVICE_NAME), guard)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
        servicer, server
    )


class _Servicer(reflection_pb2_grpc.ServerReflectionServicer):
    def __init__(self, services: Sequence[str], guard: Guard | None) -> None:
        self._answering: Any = reflection.aio.ReflectionServicer(services)
        self._guard = guard

    async def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: AsyncIterable[Any], context: Any
    ) -> AsyncIterable[Any]:
        admitted = self._admitted(request_iterator, context)
        async for answer in self._answering.ServerReflectionInfo(admitted, context):
            yield answer

    async def _admitted(self, requests: AsyncIterable[Any], context: Any) -> AsyncIterable[Any]:
        """Each counts as a request: the first before it is read, others as they come."""
        await self._admit(context)
        first = True
        async for request in requests:
            if not first:
                await self._admit(context)
            first = False
            yield request

    async def _admit(self, context: Any) -> None:
        if self._guard:
            try:
                self._guard.admit(context.invocation_metadata())
            except RetrievalError as error:
                await refuse(context, error)
