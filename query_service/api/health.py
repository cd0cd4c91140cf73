"""grpc.health.v1: SERVING only while the model server has the model ready."""

import asyncio
import logging
from typing import Protocol

from query_service.telemetry.observer import Observer
from rpc.health_servicer import HealthServicer

logger = logging.getLogger(__name__)

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
        self.servicer = HealthServicer(services)
        self._observer = observer
        self._upstream = upstream
        self._draining = False
        self._ready = True

    async def update(self) -> None:
        """Ask once."""
        ready = await self._upstream.available(_STATUS_TIMEOUT_S)
        if self._draining:
            return
        self._observer.health(ready, self._upstream.version)
        self.servicer.set(serving=ready)
        if ready and not self._ready:
            logger.info("the model server has the model ready: SERVING")
        elif self._ready and not ready:
            logger.warning("the model server does not have the model ready: NOT_SERVING")
        self._ready = ready

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(INTERVAL_S)

    async def drain(self) -> None:
        """NOT_SERVING for good; who watches is told, and watches on."""
        self._draining = True
        self._observer.health(False, self._upstream.version)
        self.servicer.set(serving=False)

    def end(self) -> None:
        """End all watches, or the server would wait for them as long as for calls under way."""
        self.servicer.end()
