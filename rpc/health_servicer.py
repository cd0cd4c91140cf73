"""An implementation of grpc.health.v1.Health in which a slow watcher delays only itself.

grpcio's own servicer writes to its watchers while it holds a lock. If a watcher stops reading, the
lock is held forever, and no status can be set any more.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Response = health_pb2.HealthCheckResponse
_SERVING, _NOT_SERVING = _Response.SERVING, _Response.NOT_SERVING
#: The type stubs of grpcio-health-checking lack the method List.
_pb: Any = health_pb2


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Reports which services are SERVING, and notifies watchers of every change."""

    def __init__(self, services: Iterable[str]) -> None:
        """Start with all ``services`` NOT_SERVING. Must be called in a running event loop."""
        self._statuses: dict[str, Any] = dict.fromkeys(services, _NOT_SERVING)
        self._changed = asyncio.Event()
        self._ended = False

    def set(self, *, serving: bool) -> None:
        """Set the status of all services."""
        status = _SERVING if serving else _NOT_SERVING
        if any(previous != status for previous in self._statuses.values()):
            self._statuses = dict.fromkeys(self._statuses, status)
            self._notify()

    def end(self) -> None:
        """End all watches once they have received the last status."""
        self._ended = True
        self._notify()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Return the status of one service."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return _Response(status=status)

    async def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return the statuses of all services."""
        return _pb.HealthListResponse(
            statuses={name: _Response(status=status) for name, status in self._statuses.items()}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, _context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the status of one service, now and whenever it changes.

        A slow watcher may miss changes in between, but it always gets the latest status.
        """
        last = None
        while True:
            # Get the event before the status, so that a change during the write is not missed.
            changed = self._changed
            ended = self._ended
            status = self._statuses.get(request.service, _Response.SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield _Response(status=status)
            if ended:
                return
            await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
