"""Operating points: recall and speed of a searcher at one search depth."""

import math
from dataclasses import dataclass
from typing import Any

from trainer.index.scann.depth import Depth
from trainer.index.scann.searcher import Design, Searcher
from trainer.index.workload import BATCH_SIZE, Latency


@dataclass(frozen=True)
class OperatingPoint:
    """Measurements of a searcher at one search depth.

    Attributes:
        design: design of the searcher.
        items: number of vectors; fewer than the catalogue has if this was measured on a sample.
        depth: the search depth.
        recall: mean recall@k over the queries.
        latency: latency of a single query and of a batch.
    """

    design: Design
    items: int
    depth: Depth
    recall: float
    latency: Latency

    @property
    def cost(self) -> float:
        """Seconds per query: the geometric mean of a single query and of one in a batch."""
        return math.sqrt(self.latency.single_s * self.latency.batch_s / BATCH_SIZE)

    def as_dict(self) -> dict[str, Any]:
        """Return the values for manifest and report, without those that do not apply."""
        return {
            **self.design.as_dict(),
            "items": self.items,
            **{name: value for name, value in vars(self.depth).items() if value},
            "recall": self.recall,
            "milliseconds": self.latency.single_s * 1e3,
            "queries_per_second_of_32": BATCH_SIZE / self.latency.batch_s,
        }


@dataclass(frozen=True, eq=False)
class TuningResult:
    """The searcher that the tuner chose, and what it measured.

    Attributes:
        searcher: the chosen searcher.
        by_k: its cheapest operating point for each tuned k, ascending by k.
        tried: the cheapest operating point at k = 100 of every searcher that reached the target.
        frontier: the chosen searcher at k = 100 with smaller and larger search depths.
        target_recall: the recall target.
        reason: why this searcher was chosen.
        seconds: duration of tuning, building included.
    """

    searcher: Searcher
    by_k: list[OperatingPoint]
    tried: list[OperatingPoint]
    frontier: list[OperatingPoint]
    target_recall: float
    reason: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return all values for manifest and report."""
        return {
            **self.searcher.design.as_dict(),
            "reason": self.reason,
            "target_recall": self.target_recall,
            "by_k": [point.as_dict() for point in self.by_k],
            "tried": [point.as_dict() for point in self.tried],
            "frontier": [point.as_dict() for point in self.frontier],
            "tuning_seconds": self.seconds,
        }
