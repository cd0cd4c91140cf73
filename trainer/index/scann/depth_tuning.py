"""Search-depth tuning: finds the cheapest depth at which a searcher reaches the recall target."""

import bisect
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from trainer.index.scann.searcher import EXHAUSTIVE, Depth, Design, Searcher
from trainer.index.workload import BATCH_SIZE, Latency, RecallEstimate, Workload

# Numbers of candidates to rescore, as multiples of k, in the order of the attempts.
_RESCORED_PER_K = (10.0, 5.0, 3.0, 2.0, 1.5, 1.2)
_MIN_RESCORED = 20
# Multiples to try if none of the above reaches the target. They multiply k or 100, whichever is
# larger, because coarse hash codes need many rescored candidates even for a single result.
_MORE_RESCORED_PER_K = (30.0, 100.0)
_MIN_K_FOR_MORE = 100
# The ratio between successive numbers of leaves to try.
_LEAVES_STEP = 1.2
# Recall is measured on a sample, so recall must exceed the target by this many standard errors.
_STANDARD_ERRORS = 2.0
# Multiples of the chosen depth that are measured for the plot of recall against speed.
_FRONTIER_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class OperatingPoint:
    """Measurements of a searcher at one search depth.

    Attributes:
        design: the design of the searcher.
        items: the number of vectors; fewer than in the catalogue if measured on a sample.
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
        """The geometric mean of the seconds for a single query and for a query in a batch."""
        return math.sqrt(self.latency.single_s * self.latency.batch_s / BATCH_SIZE)

    def as_dict(self) -> dict[str, Any]:
        """Return the values for the manifest and the report that apply to this design."""
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
    """The searcher that the tuner chose, and the measurements from tuning.

    Attributes:
        searcher: the chosen searcher.
        by_k: the searcher's cheapest operating point for each tuned k, ascending by k.
        tried: the cheapest operating points at k = 100 of all searchers that reached the target.
        frontier: operating points of the chosen searcher at k = 100, from smaller to larger depths.
        target_recall: the recall target.
        reason: the reason for choosing this searcher.
        seconds: the duration of building and tuning.
    """

    searcher: Searcher
    by_k: list[OperatingPoint]
    tried: list[OperatingPoint]
    frontier: list[OperatingPoint]
    target_recall: float
    reason: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the values for the manifest and the report."""
        return {
            **self.searcher.design.as_dict(),
            "reason": self.reason,
            "target_recall": self.target_recall,
            "by_k": [point.as_dict() for point in self.by_k],
            "tried": [point.as_dict() for point in self.tried],
            "frontier": [point.as_dict() for point in self.frontier],
            "tuning_seconds": self.seconds,
        }


class DepthTuner:
    """Finds the cheapest search depths at which one searcher reaches a recall target."""

    def __init__(self, workload: Workload, searcher: Searcher, target_recall: float) -> None:
        """Prepare to tune ``searcher``, which was built over the vectors of ``workload``."""
        self._workload, self._searcher, self._target = workload, searcher, target_recall
        self._recalls: dict[Depth, RecallEstimate] = {}

    @property
    def best_recall(self) -> float:
        """The highest recall measured so far, at any depth."""
        return max((recall.mean for recall in self._recalls.values()), default=0.0)

    def cheapest(self, k: int, max_leaves_share: float = 1.0) -> OperatingPoint | None:
        """Return the cheapest operating point for k results that reaches the target.

        Return None if no depth within ``max_leaves_share`` of all leaves reaches the target.
        """
        points = [self._point(depth) for depth in self._sufficient_depths(k, max_leaves_share)]
        return min(points, key=lambda point: point.cost, default=None)

    def frontier(self, chosen: Depth) -> list[OperatingPoint]:
        """Measure smaller and larger depths than ``chosen``, for plotting recall against speed.

        The list is empty for an exhaustive searcher, which has no search depth.
        """
        if not chosen.rescored:
            return []
        depths: dict[Depth, None] = {}  # An ordered set.
        for factor in _FRONTIER_FACTORS:
            leaves = max(round(chosen.leaves_searched * factor), 1)
            rescored = max(round(chosen.rescored * math.sqrt(factor)), chosen.k)
            leaves = min(leaves, self._searcher.design.leaves)
            depths[Depth(chosen.k, leaves, min(rescored, self._searcher.size))] = None
        return [self._point(depth) for depth in depths]

    def _sufficient_depths(self, k: int, max_leaves_share: float) -> list[Depth]:
        """Return depths that reach the target.

        For each number of rescored candidates, the list has the depth with the fewest leaves.
        """
        size, design = self._searcher.size, self._searcher.design
        if design.kind in EXHAUSTIVE:
            depth = Depth(k, 0, 0)
            return [depth] if self._is_sufficient(depth) else []
        if k == size:
            everything = Depth(k, design.leaves, size)
            self._recalls[everything] = RecallEstimate(1.0, 0.0)
            return [everything]
        leaf_counts = _leaf_counts(design.leaves, max_leaves_share)
        sufficient: list[Depth] = []
        first = 0
        for per_k in _RESCORED_PER_K:
            rescored = min(max(round(per_k * k), _MIN_RESCORED), size)
            fewest = self._fewest_leaves(k, rescored, leaf_counts[first:])
            if fewest is None:
                break
            sufficient.append(fewest)
            # The next attempt rescores fewer candidates, and needs at least as many leaves.
            first = leaf_counts.index(fewest.leaves_searched)
        for per_k in _MORE_RESCORED_PER_K:
            rescored = min(round(per_k * max(k, _MIN_K_FOR_MORE)), size)
            if not sufficient and (fewest := self._fewest_leaves(k, rescored, leaf_counts)):
                sufficient.append(fewest)
        return sufficient

    def _fewest_leaves(self, k: int, rescored: int, leaf_counts: list[int]) -> Depth | None:
        """Return the depth with the fewest leaves that reaches the target, or None.

        Recall grows with the number of leaves, so a binary search finds the depth.
        """
        *depths, deepest = (Depth(k, leaves, rescored) for leaves in leaf_counts)
        if not self._is_sufficient(deepest):
            return None
        return [*depths, deepest][bisect.bisect_left(depths, True, key=self._is_sufficient)]

    def _is_sufficient(self, depth: Depth) -> bool:
        recall = self._recall(depth)
        return recall.mean - _STANDARD_ERRORS * recall.standard_error >= self._target

    def _recall(self, depth: Depth) -> RecallEstimate:
        if depth not in self._recalls:
            search = partial(self._searcher.search, depth=depth)
            self._recalls[depth] = self._workload.recall(search, depth.k)
        return self._recalls[depth]

    def _point(self, depth: Depth) -> OperatingPoint:
        latency = self._workload.latency(partial(self._searcher.search, depth=depth))
        searcher, recall = self._searcher, self._recall(depth).mean
        return OperatingPoint(searcher.design, searcher.size, depth, recall, latency)


def _leaf_counts(leaves: int, max_share: float) -> list[int]:
    """Return the numbers of leaves to try, ascending; [0] for a searcher without leaves."""
    if not leaves:
        return [0]
    limit = max(1, round(leaves * max_share))
    count = math.ceil(math.log(limit) / math.log(_LEAVES_STEP)) + 1
    return sorted({*np.geomspace(1, limit, count).round().astype(int).tolist()})
