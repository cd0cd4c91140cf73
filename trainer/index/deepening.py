"""How deep an index has to look to reach a recall."""

import math

import numpy as np

from trainer.index.depth import Depth
from trainer.index.points import Point
from trainer.index.searcher import BRUTE_FORCE, QUANTIZED, Searcher
from trainer.index.workload import Catalogue

# From the most that are usually needed to the fewest; then more, where these are too few.
_RESCORED_PER_K = (10.0, 5.0, 3.0, 2.0, 1.5, 1.2)
_MORE_RESCORED_PER_K = (30.0, 100.0)
_FEWEST_RESCORED = 20
# For few results as many have to be rescored as for this many, where hash codes say little.
_MANY = 100
_STEP_OF_PARTITIONS_SEARCHED = 1.2
# The mean over the queries measured may be above that over all by chance.
_STANDARD_ERRORS = 2.0


class Deepening:
    """Finds the cheapest depth at which an index reaches ``target``.

    Attributes:
        nearest: the highest recall that did not, and the kind of index it was of.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self.nearest = (0.0, "none")

    def cheapest(
        self, part: Catalogue, searcher: Searcher, k: int, most_partitions: float = 1.0
    ) -> Point | None:
        """The cheapest depth for ``k``, searching a share of the partitions at the most."""
        reaching = self._reaching(part, searcher, k, most_partitions)
        points = [
            Point(searcher.design, len(part.vectors), depth, recall, *part.seconds(searcher, depth))
            for depth, recall in reaching
        ]
        return min(points, key=lambda point: point.cost, default=None)

    def _reaching(
        self, part: Catalogue, searcher: Searcher, k: int, most_partitions: float
    ) -> list[tuple[Depth, float]]:
        """By how many are rescored: the fewest partitions that reach the target, and the recall."""
        size, leaves = len(part.vectors), searcher.design.leaves
        if searcher.design.kind in (BRUTE_FORCE, QUANTIZED):
            recall = self._recall(part, searcher, Depth(k, 0, 0))
            return [] if recall is None else [(Depth(k, 0, 0), recall)]
        if k == size:
            return [(Depth(k, leaves, size), 1.0)]
        steps = _steps(leaves, most_partitions)
        reached: list[tuple[Depth, float]] = []
        fewest = 0
        for per_k in _RESCORED_PER_K:
            rescored = min(max(round(per_k * k), _FEWEST_RESCORED), size)
            found = self._fewest(part, searcher, k, rescored, steps[fewest:])
            if found is None:
                break
            reached.append(found)
            # Who rescores fewer does not get by with fewer partitions.
            fewest = steps.index(found[0].leaves_searched)
        for per_k in _MORE_RESCORED_PER_K:
            rescored = min(round(per_k * max(k, _MANY)), size)
            if not reached and (found := self._fewest(part, searcher, k, rescored, steps)):
                reached.append(found)
        return reached

    def _fewest(
        self, part: Catalogue, searcher: Searcher, k: int, rescored: int, steps: list[int]
    ) -> tuple[Depth, float] | None:
        """The least of ``steps``, numbers of partitions, that reaches the target."""
        best: tuple[Depth, float] | None = None
        low, high = 0, len(steps)
        middle = high - 1  # First whether any does.
        while low < high:
            depth = Depth(k, steps[middle], rescored)
            # The recall rises with the partitions searched.
            if (recall := self._recall(part, searcher, depth)) is not None:
                best, high = (depth, recall), middle
            elif best is None:
                return None
            else:
                low = middle + 1
            middle = (low + high) // 2
        return best

    def _recall(self, part: Catalogue, searcher: Searcher, depth: Depth) -> float | None:
        """The recall, where it can be relied on to reach the target; else None."""
        recall, error = part.recall(searcher, depth)
        if recall - _STANDARD_ERRORS * error >= self._target:
            return recall
        self.nearest = max(self.nearest, (recall, searcher.design.kind))
        return None


def _steps(leaves: int, share: float) -> list[int]:
    """Numbers of partitions to search, up to a share of them; [0] where there are none."""
    if not leaves:
        return [0]
    most = max(1, round(leaves * share))
    count = math.ceil(math.log(most) / math.log(_STEP_OF_PARTITIONS_SEARCHED)) + 1
    return sorted({*np.geomspace(1, most, count).round().astype(int).tolist()})
