"""Numbers that all workers share: a row for each worker, which that worker alone writes.

The rows are anonymous shared memory, made before the workers are forked: nothing is left behind
however a process ends, any worker can read all rows, and adding to a number costs a tenth of a
microsecond. A worker that takes a dead one's place goes on in its row, so that counters never
fall.
"""

import mmap
from typing import TypeAlias

#: What a row has room for, in 32 KiB; memory that is never written is never taken.
NUMBERS = 4_096
#: The first number of a row: 1 while its worker lives.
ALIVE = 0

Row: TypeAlias = "memoryview[float]"


class Rows:
    """The rows of all workers. Make it before forking."""

    def __init__(self, workers: int = 1) -> None:
        size = NUMBERS * 8
        self.all: list[Row] = [memoryview(mmap.mmap(-1, size)).cast("d") for _ in range(workers)]

    def alive(self) -> list[Row]:
        """The rows of workers that live."""
        return [row for row in self.all if row[ALIVE]]

    def ended(self, worker: int) -> None:
        """The worker is no more: its gauges do not count."""
        self.all[worker][ALIVE] = 0
