"""grpc.health.v1: SERVING only while the model server has the model ready."""

import asyncio
from typing import Protocol

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from query_service.observing.observer import Observer

INTERVAL_S = 0.5
_STATUS_TIMEOUT_S = 1.0


class Upstream(Protocol):
    """Can say whether it answers."""

    version: int | None

    async def available(self, timeout_s: float) -> bool:
        """Whether the model can be asked."""


class HealthMonitor:
    """Asks the model server twice a second and sets the health of ``services``."""

    def __init__(self, upstream: Upstream, services: tuple[str, ...], observer: Observer) -> None:
        self.servicer = health_aio.HealthServicer()
        self._observer = observer
        self._upstream = upstream
        self._services = services
        self._draining = False

    async def update(self) -> None:
        """Ask once."""
        ready = await self._upstream.available(_STATUS_TIMEOUT_S)
        if self._draining:
            return
        self._observer.health(ready, self._upstream.version)
        response = health_pb2.HealthCheckResponse
        for service in self._services:
            await self.servicer.set(service, response.SERVING if ready else response.NOT_SERVING)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(INTERVAL_S)

    async def drain(self) -> None:
        """NOT_SERVING for good."""
        self._draining = True
        self._observer.health(False, self._upstream.version)
        await self.servicer.enter_graceful_shutdown()
