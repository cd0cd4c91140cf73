"""Metric values in memory that all workers share.

Each worker has a block of samples that it alone writes, and any worker can read all blocks. The
memory is anonymous and mapped before the workers are forked, so that no file is left behind however
a process ends. A worker that replaces a dead one continues with its block, so that counters never
decrease.
"""

import mmap
from typing import TypeAlias

#: The capacity of a block, in 32 KiB; the system provides only pages that are written.
MAX_SAMPLES = 4_096
#: The index of the sample that is 1 while the worker of a block is alive.
ALIVE = 0

Block: TypeAlias = "memoryview[float]"


class SharedSamples:
    """The blocks of all workers, by the number of the worker. Create it before forking."""

    def __init__(self, workers: int = 1) -> None:
        size_bytes = MAX_SAMPLES * 8
        self.blocks: list[Block] = [
            memoryview(mmap.mmap(-1, size_bytes)).cast("d") for _ in range(workers)
        ]

    def alive(self) -> list[Block]:
        """Return the blocks of workers that are alive."""
        return [block for block in self.blocks if block[ALIVE]]

    def ended(self, worker: int) -> None:
        """Note that a worker has ended, so that its gauges no longer count."""
        self.blocks[worker][ALIVE] = 0
