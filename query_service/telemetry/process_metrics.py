"""What a worker knows of its own process, told once a second."""

import asyncio
import time
from pathlib import Path

from query_service.telemetry.metrics import Metrics

_INTERVAL_S = 1.0
_STATM = Path("/proc/self/statm")


async def tell_process(metrics: Metrics) -> None:
    """Tell until cancelled: memory, and the CPU time since the last time."""
    metrics.worker_starts.add()
    metrics.workers.set(1)
    metrics.sheet.begin()
    told_s = 0.0
    while True:
        used_s = time.process_time()
        metrics.cpu.add(used_s - told_s)
        told_s = used_s
        metrics.resident.set(resident_bytes())
        await asyncio.sleep(_INTERVAL_S)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say (Linux does)."""
    import resource

    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
