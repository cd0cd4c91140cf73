"""Results of the index benchmark: measurements of each peer's search settings, and the table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from benchmarks import reporting
from benchmarks.index.peers import OURS, Setting
from benchmarks.index.process import LOADS

#: The number of search settings per peer and target that the rounds measure.
_POINTS_PER_TARGET = 4


@dataclass
class Point:
    """An operating point: one search setting of a peer.

    Attributes:
        setting: the search setting.
        tuning_recall: recall on the queries for choosing a setting.
        recall: recall on the queries for reporting.
        sweep: queries per second in a short first measurement of all settings, by load.
        rates: queries per second by load, one value per round; empty if not measured in rounds.
    """

    setting: Setting
    tuning_recall: float
    recall: float
    sweep: dict[str, float]
    rates: dict[str, list[float]] = field(default_factory=dict)

    def sweep_speed(self) -> float:
        """Return the geometric mean over all loads of the queries per second in ``sweep``."""
        return statistics.geometric_mean(self.sweep.values())

    def speed(self) -> float:
        """Return the geometric mean over all loads of the median queries per second."""
        return statistics.geometric_mean(map(statistics.median, self.rates.values()))


@dataclass
class Measured:
    """All results of one peer: build time, peak memory, disk size, and measured search settings."""

    name: str
    build_seconds: float = 0.0
    build_peak_mib: float = 0.0
    serve_peak_mib: float = 0.0
    size_mib: float = 0.0
    points: list[Point] = field(default_factory=list)

    @property
    def target(self) -> float | None:
        """The target recall that Shortlist's index was built for; None for other peers."""
        return float(self.name.removeprefix(OURS)) if self.name.startswith(OURS) else None

    @property
    def fixed(self) -> bool:
        """Return True if the peer has a single search setting, which fixes its recall."""
        return self.target is None and not self.points[0].setting

    def fastest_points(self, targets: Sequence[float]) -> list[Point]:
        """Return the points to measure in rounds: for each target, the fastest in the sweep."""
        if len(self.points) == 1:
            return self.points
        chosen: list[Point] = []
        for target in targets:
            reaching = (point for point in self.points if point.tuning_recall >= target)
            fastest = sorted(reaching, key=Point.sweep_speed, reverse=True)[:_POINTS_PER_TARGET]
            chosen += [point for point in fastest if point not in chosen]
        return chosen

    def at(self, target: float) -> Point | None:
        """Return the fastest point that reaches the target on the queries for choosing, or None."""
        if self.target is not None:
            # Shortlist's index was tuned for one target when it was built.
            return self.points[0] if self.target == target else None
        reaching = (p for p in self.points if p.rates and p.tuning_recall >= target)
        return max(reaching, key=Point.speed, default=None)

    def cells(self, point: Point) -> list[str]:
        """Return the cells of a table row, except for the target in the first column."""
        sizes = (self.build_seconds, self.build_peak_mib, self.serve_peak_mib, self.size_mib)
        return [
            self.name,
            ", ".join(f"{name} {value:g}" for name, value in point.setting.items()),
            f"{point.recall:.4f}",
            *(reporting.median_and_range(point.rates[str(load)], 0) for load in LOADS),
            *(f"{size:,.0f}" if size else "-" for size in sizes),
        ]


def table(results: list[Measured], targets: list[float]) -> Table:
    """Return the table of all peers at every target. Peers with a single setting come first."""
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
