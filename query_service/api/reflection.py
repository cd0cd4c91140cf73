"""grpc.reflection.v1alpha, for those who may ask."""

from collections.abc import AsyncIterable, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from query_service.access.guard import Guard
from query_service.api.methods import refuse
from query_service.errors import RetrievalError


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
        if self._guard:
            try:
                self._guard.admit(context.invocation_metadata())
            except RetrievalError as error:
                await refuse(context, error)
        async for answer in self._answering.ServerReflectionInfo(request_iterator, context):
            yield answer
