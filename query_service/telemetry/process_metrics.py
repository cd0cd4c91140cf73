"""Memory and CPU time of this process, reported once a second."""

import asyncio
import time
from pathlib import Path

from query_service.telemetry.metrics import Metrics

_INTERVAL_S = 1.0
_STATM = Path("/proc/self/statm")


async def report_process_metrics(metrics: Metrics) -> None:
    """Mark this worker as alive, and report its resource usage until cancelled."""
    metrics.worker_starts.add()
    metrics.workers.set(1)
    metrics.registry.mark_alive()
    reported_s = 0.0
    while True:
        used_s = time.process_time()
        metrics.cpu.add(used_s - reported_s)
        reported_s = used_s
        metrics.resident.set(resident_bytes())
        await asyncio.sleep(_INTERVAL_S)


def resident_bytes() -> int:
    """Return the resident memory of this process, or 0 where /proc does not exist."""
    import resource

    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
