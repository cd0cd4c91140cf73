"""What was found of an index: at one depth, and after all was tried."""

import math
from dataclasses import dataclass
from typing import Any

from trainer.index.depth import Depth
from trainer.index.searcher import Design, Searcher
from trainer.index.workload import BATCH


@dataclass(frozen=True)
class Point:
    """An index that was tried, at one depth.

    Attributes:
        design: how it was built.
        items: over how many items: fewer than there are, on a sample.
        depth: how deep it looked.
        recall: the mean over the queries.
        seconds: of one query alone.
        seconds_of_32: of a batch of 32.
    """

    design: Design
    items: int
    depth: Depth
    recall: float
    seconds: float
    seconds_of_32: float

    @property
    def cost(self) -> float:
        """Geometric mean of the times of a query alone and of one in a batch, seconds."""
        return math.sqrt(self.seconds * self.seconds_of_32 / BATCH)

    def described(self) -> dict[str, Any]:
        """For the manifest and the report."""
        return {
            **self.design.as_dict(),
            "items": self.items,
            **{name: value for name, value in vars(self.depth).items() if value},
            "recall": self.recall,
            "milliseconds": self.seconds * 1e3,
            "queries_per_second_of_32": BATCH / self.seconds_of_32,
        }


@dataclass(frozen=True, eq=False)
class Tuned:
    """What was found.

    Attributes:
        searcher: the index.
        points: how deep it has to look, by k, ascending.
        tried: what else reached the recall at k = 100.
        frontier: the same index at k = 100, looking less and more deeply.
        target: the recall that was asked for.
        reason: why this kind.
        seconds: of wall time, building included.
    """

    searcher: Searcher
    points: list[Point]
    tried: list[Point]
    frontier: list[Point]
    target: float
    reason: str
    seconds: float

    @property
    def depths(self) -> list[Depth]:
        """Of the points."""
        return [point.depth for point in self.points]

    def described(self) -> dict[str, Any]:
        """For the manifest and the report."""
        return {
            **self.searcher.design.as_dict(),
            "reason": self.reason,
            "target_recall": self.target,
            "by_k": [point.described() for point in self.points],
            "tried": [point.described() for point in self.tried],
            "frontier": [point.described() for point in self.frontier],
            "tuning_seconds": self.seconds,
        }
