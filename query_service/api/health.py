"""Reports the service as SERVING only while the model server has loaded the model."""

import asyncio
import logging

from query_service.backend.tf_serving import TfServingClient
from query_service.heartbeat import Heartbeat
from query_service.telemetry.observer import Observer
from rpc.health_servicer import HealthServicer

logger = logging.getLogger(__name__)

INTERVAL_S = 0.5
_STATUS_TIMEOUT_S = 1.0


class HealthMonitor:
    """Polls the model server twice a second, and sets the health of ``services``."""

    def __init__(
        self,
        model_server: TfServingClient,
        services: tuple[str, ...],
        observer: Observer,
        heartbeat: Heartbeat,
    ) -> None:
        self.servicer = HealthServicer(services)
        self._observer = observer
        self._heartbeat = heartbeat
        self._model_server = model_server
        self._draining = False
        self._ready = True

    async def update(self) -> None:
        """Ask the model server once whether the model is available, and set the health."""
        ready = await self._model_server.available(_STATUS_TIMEOUT_S)
        if self._draining:
            return
        self._observer.record_health(ready, self._model_server.version)
        self.servicer.set(serving=ready)
        if ready:
            self._heartbeat.beat()
        if ready and not self._ready:
            logger.info("the model is available on the model server: SERVING")
        elif self._ready and not ready:
            logger.warning("the model is not available on the model server: NOT_SERVING")
        self._ready = ready

    async def run(self) -> None:
        """Poll the model server until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(INTERVAL_S)

    async def drain(self) -> None:
        """Report NOT_SERVING from now on, and keep watches open."""
        self._draining = True
        self._observer.record_health(False, self._model_server.version)
        self.servicer.set(serving=False)

    def end(self) -> None:
        """End all watches, for which shutdown would otherwise wait until the grace period ends."""
        self.servicer.end()
