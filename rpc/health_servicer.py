"""grpc.health.v1.Health, in which no watcher can hold up anything but itself.

grpcio's own writes to its watchers under a lock: one that stops reading keeps it for ever, and
nothing can be set any more.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from query_service.api.methods import refuse
from query_service.errors import UnknownQuery

_Response = health_pb2.HealthCheckResponse
_SERVING, _NOT_SERVING = _Response.SERVING, _Response.NOT_SERVING
#: Its types do not know the method List.
_pb: Any = health_pb2


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Says which services are SERVING, and says it again whenever that changes."""

    def __init__(self, services: Iterable[str]) -> None:
        """None of the services is SERVING yet. Inside a running event loop."""
        self._statuses: dict[str, Any] = dict.fromkeys(services, _NOT_SERVING)
        self._changed = asyncio.Event()
        self._ended = False

    def set(self, *, serving: bool) -> None:
        """The health of all the services."""
        status = _SERVING if serving else _NOT_SERVING
        if any(one != status for one in self._statuses.values()):
            self._statuses = dict.fromkeys(self._statuses, status)
            self._tell()

    def end(self) -> None:
        """Let all watchers go, once they have the last status."""
        self._ended = True
        self._tell()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """The status of one service now."""
        status = self._statuses.get(request.service)
        if status is None:
            await refuse(context, UnknownQuery("there is no such service"))
        return _Response(status=status)

    async def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """The statuses of all services now."""
        return _pb.HealthListResponse(
            statuses={name: _Response(status=one) for name, one in self._statuses.items()}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, _context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of one service now and whenever it is another; a slow reader misses some."""
        last = None
        while True:
            # Before the look at the status: what comes during the write is not missed.
            changed = self._changed
            ended = self._ended
            status = self._statuses.get(request.service, _Response.SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield _Response(status=status)
            if ended:
                return
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
