"""The results of the comparison: search settings of every peer, their measurements, the table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from benchmarks import reporting
from benchmarks.index.peers import OURS, Setting
from benchmarks.index.process import LOADS

#: The number of settings per target that the rounds measure.
_CONTENDERS = 4


@dataclass
class Point:
    """An operating point: one search setting of a peer.

    Attributes:
        setting: the search setting.
        tuning_recall: recall on the queries for choosing.
        recall: recall on the queries for reporting.
        sweep: queries per second in the sweep, by load.
        rates: queries per second in every round, by load.
    """

    setting: Setting
    tuning_recall: float
    recall: float
    sweep: dict[str, float]
    rates: dict[str, list[float]] = field(default_factory=dict)

    def sweep_speed(self) -> float:
        """Return queries per second in the sweep, as the geometric mean over all loads."""
        return statistics.geometric_mean(self.sweep.values())

    def speed(self) -> float:
        """Return queries per second in the rounds, as the geometric mean over all loads."""
        return statistics.geometric_mean(map(statistics.median, self.rates.values()))


@dataclass
class Measured:
    """All results of one peer; times in seconds, sizes in MiB."""

    name: str
    build_seconds: float = 0.0
    build_peak_mib: float = 0.0
    serve_peak_mib: float = 0.0
    size_mib: float = 0.0
    points: list[Point] = field(default_factory=list)

    @property
    def target(self) -> float | None:
        """The recall that the index was tuned for when it was built, which only ours is."""
        return float(self.name.removeprefix(OURS)) if self.name.startswith(OURS) else None

    @property
    def fixed(self) -> bool:
        """Tell whether the peer has a single setting, so that its recall cannot be chosen."""
        return self.target is None and not self.points[0].setting

    def contenders(self, targets: Sequence[float]) -> list[Point]:
        """Return the settings that the rounds measure: for each target, those fastest to try."""
        if len(self.points) == 1:
            return self.points
        chosen: list[Point] = []
        for target in targets:
            reaching = (one for one in self.points if one.tuning_recall >= target)
            fastest = sorted(reaching, key=Point.sweep_speed, reverse=True)[:_CONTENDERS]
            chosen += [one for one in fastest if one not in chosen]
        return chosen

    def at(self, target: float) -> Point | None:
        """Return the fastest setting that reaches the target on the queries for choosing."""
        if self.target is not None:
            # It was tuned when it was built, and its recall is reported as it is.
            return self.points[0] if self.target == target else None
        reaching = (one for one in self.points if one.rates and one.tuning_recall >= target)
        return max(reaching, key=Point.speed, default=None)

    def cells(self, point: Point) -> list[str]:
        """Return the cells of a table row, from the name on."""
        sizes = (self.build_seconds, self.build_peak_mib, self.serve_peak_mib, self.size_mib)
        return [
            self.name,
            ", ".join(f"{name} {value:g}" for name, value in point.setting.items()),
            f"{point.recall:.4f}",
            *(reporting.median_and_range(point.rates[str(load)], 0) for load in LOADS),
            *(f"{size:,.0f}" if size else "-" for size in sizes),
        ]


def table(results: list[Measured], targets: list[float]) -> Table:
    """Return the table of all peers at every target; those with one setting come first."""
    sizes = ("build s", "build MiB", "serve MiB", "disk MiB")
    columns = ("recall@100", "index", "setting", "recall", *map(str, LOADS), *sizes)
    rows = reporting.table("queries/s: median (min-max)", *columns)
    for measured in results:
        if measured.fixed:
            rows.add_row("as it is", *measured.cells(measured.points[0]))
    for target in targets:
        rows.add_section()
        for measured in results:
            if measured.fixed or measured.target not in (None, target):
                continue
            if point := measured.at(target):
                rows.add_row(f"{target}", *measured.cells(point))
            else:
                best = max(point.recall for point in measured.points)
                rows.add_row(f"{target}", measured.name, "not reached", f"{best:.4f}")
    return rows
