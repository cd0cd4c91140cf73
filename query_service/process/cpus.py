"""Counts the CPUs that this process may use."""

import os
from pathlib import Path


def usable_cpus(limit_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of usable CPUs within the limit of the control group; at least 1."""
    # os.sched_getaffinity exists on Linux only.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    # No control groups of version 2, and so no such limit.
    except (OSError, ValueError):
        return cpus
