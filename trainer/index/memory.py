"""Estimates how much memory an index needs, so that the trainer can warn before memory runs out.

The constants were measured with ``python -m trainer index`` and this project's model server.
benchmarks/README.md has the measurements.
"""

from pathlib import Path

from trainer.index.base import IndexBuilder

# The memory for an item's id, its entry in the lookup table and its popularity rank.
_BYTES_PER_ID = 120
# The memory that TensorFlow and other libraries use. The trainer also needs memory for tuning.
_SERVING_OVERHEAD_BYTES = 900_000_000
_BUILDING_OVERHEAD_BYTES = 1_400_000_000

_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


def bytes_to_build(builder: IndexBuilder, items: int, dim: int) -> int:
    """Return the trainer's peak memory for indexing vectors [items, dim]."""
    return _BUILDING_OVERHEAD_BYTES + items * _BYTES_PER_ID + builder.bytes_to_build(items, dim)


def bytes_to_serve(builder: IndexBuilder, items: int, dim: int) -> int:
    """Return the memory that a model server needs for one version with vectors [items, dim].

    While a model server loads a new version, it needs memory for both versions.
    """
    return _SERVING_OVERHEAD_BYTES + items * _BYTES_PER_ID + builder.bytes_to_serve(items, dim)


def available_bytes() -> int:
    """Return how much more memory this process can use within its container's limit."""
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    machine_bytes = int(lines["MemAvailable"].split()[0]) * 1024
    try:
        container_bytes = int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text())
    except (OSError, ValueError):  # No control groups, or the limit is "max".
        return machine_bytes
    return min(machine_bytes, container_bytes)


def warning(builder: IndexBuilder, items: int, dim: int) -> str | None:
    """Return a warning if indexing vectors [items, dim] needs too much memory, or None."""
    needed, available = bytes_to_build(builder, items, dim), available_bytes()
    if needed <= available:
        return None
    return (
        f"Indexing {items:,} vectors of {dim} dimensions needs about {needed / 2**30:.1f} GiB of "
        f"memory, but only {available / 2**30:.1f} GiB are available"
    )
