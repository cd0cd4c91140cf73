"""Counts the CPUs that the service may use."""

import os
from pathlib import Path


def usable_cpus(limit_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of usable CPUs, at least 1, within the limit of the control group."""
    # os.sched_getaffinity exists on Linux only.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    # Without control groups of version 2, there is no such limit.
    except (OSError, ValueError):
        return cpus
