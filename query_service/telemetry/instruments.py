"""Counters, gauges and histograms: each some numbers of a row.

Workers must declare the same ones in the same order, for a number to mean the same in each row;
so all label values are named at the start, and looking one up is never part of a request.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from query_service.telemetry.shared_samples import ALIVE, NUMBERS, Row, Rows


class Counter:
    """Only grows."""

    __slots__ = ("_row", "first")
    size = 1
    bounds: tuple[float, ...] = ()

    def __init__(self, row: Row, first: int) -> None:
        self._row, self.first = row, first

    def add(self, amount: float = 1) -> None:
        """Count so many more."""
        self._row[self.first] += amount


class Gauge(Counter):
    """Goes up and down; ``add`` takes negative amounts too."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """It is this now."""
        self._row[self.first] = value


class Histogram:
    """How many observations were up to each bound, and their sum."""

    __slots__ = ("_buckets", "_row", "bounds", "first", "size")

    def __init__(self, row: Row, first: int, bounds: tuple[float, ...]) -> None:
        self._row, self.first, self.bounds = row, first, bounds
        self._buckets = first + 1
        # The sum, the buckets, and the bucket of what is above all bounds.
        self.size = len(bounds) + 2

    def observe(self, value: float) -> None:
        """Count one observation."""
        row = self._row
        row[self.first] += value
        row[self._buckets + bisect_left(self.bounds, value)] += 1


Instrument = TypeVar("Instrument", Counter, Gauge, Histogram)


class Family(Generic[Instrument]):
    """Instruments of one name, told apart by the values of labels."""

    def __init__(
        self,
        kind: type[Instrument],
        name: str,
        text: str,
        labels: Sequence[str],
        make: Callable[[], Instrument],
        over_workers: Callable[[Iterable[float]], float] = sum,
    ) -> None:
        self.kind: type[Instrument] = kind
        self.name, self.text, self.labels = name, text, labels
        self.over_workers = over_workers
        self.children: dict[tuple[str, ...], Instrument] = {}
        self._make: Callable[[], Instrument] = make

    def labelled(self, *values: str) -> Instrument:
        """The one with these values of the labels, declared at the first call."""
        if values not in self.children:
            self.children[values] = self._make()
        return self.children[values]


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]


class Sheet:
    """What the numbers of a row stand for."""

    def __init__(self, rows: Rows, worker: int) -> None:
        self.rows = rows
        self.families: list[AnyFamily] = []
        self._row = rows.all[worker]
        self._used = ALIVE + 1

    def counter(self, name: str, text: str, *labels: str) -> Family[Counter]:
        """Declare a family of counters; its total is that of all workers, dead ones too."""
        family = Family(Counter, name, text, labels, lambda: Counter(self._row, self._take(1)))
        self.families.append(family)
        return family

    def gauge(
        self, name: str, text: str, over_workers: Callable[[Iterable[float]], float] = sum
    ) -> Gauge:
        """Declare a gauge; it starts at 0. ``over_workers`` makes one value of the workers'."""
        family: Family[Gauge] = Family(
            Gauge, name, text, (), lambda: Gauge(self._row, self._take(1)), over_workers
        )
        self.families.append(family)
        gauge = family.labelled()
        # What a dead worker left behind.
        gauge.set(0)
        return gauge

    def histogram(
        self, name: str, text: str, bounds: tuple[float, ...], *labels: str
    ) -> Family[Histogram]:
        """Declare a family of histograms."""
        size = len(bounds) + 2
        family = Family(
            Histogram, name, text, labels, lambda: Histogram(self._row, self._take(size), bounds)
        )
        self.families.append(family)
        return family

    def _take(self, size: int) -> int:
        first = self._used
        self._used += size
        if self._used > NUMBERS:
            raise ValueError(f"more than {NUMBERS} numbers: a row has no room for more metrics")
        return first

    def totals(self, family: AnyFamily, instrument: Counter | Gauge | Histogram) -> list[float]:
        """The instrument's numbers, made one of all workers'."""
        rows = self.rows.alive() if isinstance(instrument, Gauge) else self.rows.all
        places = range(instrument.first, instrument.first + instrument.size)
        return [family.over_workers([row[place] for row in rows] or [0.0]) for place in places]

    def begin(self) -> None:
        """This process is the row's worker now."""
        self._row[ALIVE] = 1
