"""How much memory an index takes, to be said before it runs out.

Measured with `python -m trainer index` and the project's model server; benchmarks/README.md has
the figures that the formulas come from.
"""

from pathlib import Path

# Of an id: text, its entry in the table of ids, its place in the list of the popular.
_ID_BYTES = 120
# TensorFlow, the libraries and what they allocate at once; to build, what is tuned with, too.
_SERVING_BYTES = 900_000_000
_BUILDING_BYTES = 1_400_000_000
# Copies of the vectors at the height of building: what is given, the searcher's, the tensors that
# it is taken apart into, the variables that are saved, and what saving them takes.
_COPIES_BUILDING = 6.5
# And of serving: the variable, and the searcher's beside it.
_COPIES_SERVING = 2

_MEMORY = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


def to_build(items: int, dim: int) -> int:
    """Bytes that the trainer needs at the most for N vectors of D dimensions."""
    return _BUILDING_BYTES + round(items * (_COPIES_BUILDING * 4 * dim + _ID_BYTES))


def to_serve(items: int, dim: int) -> int:
    """Bytes that a model server needs for the ScaNN index; a new version beside it, as many."""
    return _SERVING_BYTES + items * (_COPIES_SERVING * 4 * dim + dim // 4 + _ID_BYTES)


def available() -> int:
    """Bytes that this process could still take, in its container too."""
    lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    try:
        left = int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text())
    except (OSError, ValueError):  # "max", or no control groups
        return free
    return min(free, left)


def warning(items: int, dim: int) -> str | None:
    """What to say before N vectors of D dimensions are indexed; None where there is room."""
    needed, there = to_build(items, dim), available()
    if needed <= there:
        return None
    return (
        f"Indexing {items:,} vectors of {dim} dimensions takes some {needed / 2**30:.1f} GiB of "
        f"memory, and {there / 2**30:.1f} GiB are free"
    )
