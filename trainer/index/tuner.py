"""Finds the cheapest ScaNN index that reaches a recall, by measuring on this machine.

Measured are the recall against the exact answer, and the time of a query alone and of one in a
batch of 32, whose geometric mean is the cost. First how vectors are hashed, on a sample of the
catalogue; then how many partitions there are; then, on the index that is to be served, how deep
it has to look for each k.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.config import IndexConfig
from trainer.index import IndexTuningError
from trainer.index.deepening import Deepening
from trainer.index.depth import Depth
from trainer.index.points import Point, Tuned
from trainer.index.searcher import BRUTE_FORCE, HASHING, PARTITIONS, QUANTIZED, Design, Searcher
from trainer.index.workload import Catalogue

#: The k at which an index is chosen.
K = 100
#: The k for which the depth is measured.
MEASURED_KS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000)

# An index that may miss something has to be this much cheaper than one that does not.
_WORTH_MISSING = 1.5
# Kinds that score the whole catalogue are not tried beyond, the others not below. Of fewer items
# than the first, a call of the index takes longer than scoring them all.
_APPROXIMATE_FROM = 1_000
_SCORE_ALL_UP_TO = 200_000
# Hash codes have 16 values, each learnt from an item.
_FEWEST_HASHED = 16
_PARTITIONS_FROM = 20_000
# Dimensions of a block and threshold; tried on so many items.
_HASHINGS = ((2, 0.2), (2, 0.1), (2, 0.3), (4, 0.2))
_HASHING_ITEMS = 200_000
# Partitions, as multiples of the square root of the number of items; tried on so many.
_PARTITIONS = (1.0, 2.0, 4.0)
_PARTITIONS_ITEMS = 1_000_000
# An index that has to search more of its partitions for k = 100 is no better than one without.
_MOST_PARTITIONS_SEARCHED = 0.3
# How much less and more deeply the chosen index looks for the plot.
_FRONTIER = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def tune(
    vectors: NDArray[np.float32],
    queries: Mapping[str, NDArray[np.float32]],
    config: IndexConfig,
    notice: Callable[[str], object] = lambda _: None,
) -> Tuned:
    """The cheapest index that finds ``config.target_recall`` of the true best.

    Args:
        vectors: float32 [N, D], the catalogue.
        queries: float32 [M, D] of every kind that will come; each kind gets the recall.
        config: the target, and what is given.
        notice: told what goes on.

    Raises:
        IndexTuningError: nothing reached the target; the message says what came nearest.
    """
    started = time.perf_counter()
    tuner = _Tuner(vectors, queries, config, notice)
    searcher, point, reason = tuner.choose()
    return Tuned(
        searcher=searcher,
        points=tuner.points(searcher, point),
        tried=tuner.tried,
        frontier=tuner.frontier(searcher, point),
        target=config.target_recall,
        reason=reason,
        seconds=time.perf_counter() - started,
    )


_Found = tuple[Searcher, Point]


class _Tuner:
    def __init__(
        self,
        vectors: NDArray[np.float32],
        queries: Mapping[str, NDArray[np.float32]],
        config: IndexConfig,
        notice: Callable[[str], object],
    ) -> None:
        self._config, self._notice = config, notice
        self._queries = queries
        self._whole = Catalogue(vectors, queries, MEASURED_KS)
        self._size = len(vectors)
        self._k = min(K, self._size)
        self._kinds = _kinds(self._size) if config.kind == "auto" else [config.kind]
        if config.kind in (HASHING, PARTITIONS) and self._size < _FEWEST_HASHED:
            raise IndexTuningError(
                f"index.kind {config.kind} needs {_FEWEST_HASHED} items, not {self._size}"
            )
        if config.leaves > self._size:
            raise IndexTuningError(
                f"index.leaves {config.leaves:,} is more than the {self._size:,} items"
            )
        self._deepening = Deepening(config.target_recall)
        self.tried: list[Point] = []

    def choose(self) -> tuple[Searcher, Point, str]:
        """The best index, what it reached at k = 100, and why it is the best."""
        best: _Found | None = None
        for kind in self._kinds:
            self._notice(f"Trying {kind.replace('_', ' ')}")
            found = self._partitioned() if kind == PARTITIONS else self._unpartitioned(kind)
            if found is None:
                continue
            exact = best is not None and best[1].design.kind == BRUTE_FORCE
            if best is None or found[1].cost * (_WORTH_MISSING if exact else 1) < best[1].cost:
                best = found
        if best is None:
            recall, what = self._deepening.nearest
            raise IndexTuningError(
                f"index.target_recall {self._config.target_recall:g} at k = {self._k} is not "
                f"reached by {', '.join(self._kinds)}: {what} came nearest, with {recall:.4f}"
            )
        if len(self._kinds) == 1:
            reason = (
                f"the only kind for {self._size:,} items" if self._config.kind == "auto" else "set"
            )
        elif best[1].design.kind == BRUTE_FORCE:
            reason = f"exact, and nothing else was {_WORTH_MISSING} times as fast"
        else:
            reason = f"the cheapest that found {self._config.target_recall:g} of the true best"
        return *best, reason

    def points(self, searcher: Searcher, chosen: Point) -> list[Point]:
        """The cheapest depth that reaches the target, for every measured k."""
        if searcher.design.kind in (BRUTE_FORCE, QUANTIZED):
            return [chosen]
        self._notice("Measuring how deep it has to look for other k")
        points: list[Point] = []
        for k in self._whole.ks:
            point = chosen if k == self._k else self._deepening.cheapest(self._whole, searcher, k)
            if point is None:
                raise IndexTuningError(
                    f"index.target_recall {self._config.target_recall:g} is reached at k = "
                    f"{self._k}, but not at {k}"
                )
            points.append(point)
        return points

    def frontier(self, searcher: Searcher, chosen: Point) -> list[Point]:
        """Recall and time at k = 100 by how deep the index looks; of one that looks at some."""
        depth = chosen.depth
        if not depth.rescored:
            return []
        points: list[Point] = []
        for factor in _FRONTIER:
            leaves = min(max(round(depth.leaves_searched * factor), 1), searcher.design.leaves)
            rescored = min(max(round(depth.rescored * math.sqrt(factor)), depth.k), self._size)
            other = Depth(depth.k, leaves if depth.leaves_searched else 0, rescored)
            if other not in [point.depth for point in points]:
                recall, _ = self._whole.recall(searcher, other)
                seconds = self._whole.seconds(searcher, other)
                points.append(Point(searcher.design, self._size, other, recall, *seconds))
        return points

    def _unpartitioned(self, kind: str) -> _Found | None:
        design = replace(self._hashing, kind=kind, leaves=0) if kind == HASHING else Design(kind)
        return self._tried(self._whole, design)

    def _partitioned(self) -> _Found | None:
        """The best number of partitions; with many items, found on a sample of them."""
        hashing = self._hashing
        if self._config.leaves:
            return self._tried(self._whole, replace(hashing, leaves=self._config.leaves))
        part = self._sample(_PARTITIONS_ITEMS)
        best: tuple[float, _Found] | None = None
        for factor in _PARTITIONS:
            leaves = round(factor * math.sqrt(len(part.vectors)))
            found = self._tried(part, replace(hashing, leaves=leaves))
            if found and (best is None or found[1].cost < best[1][1].cost):
                best = factor, found
        if best is None or part is self._whole:
            return best and best[1]
        leaves = round(best[0] * math.sqrt(self._size))
        return self._tried(self._whole, replace(hashing, leaves=leaves))

    @cached_property
    def _hashing(self) -> Design:
        """How vectors are hashed best, found on a sample of the items where these are many."""
        config = self._config
        kind = PARTITIONS if PARTITIONS in self._kinds else HASHING
        part = self._sample(_HASHING_ITEMS)
        leaves = round(2 * math.sqrt(len(part.vectors))) if kind == PARTITIONS else 0
        dim = part.vectors.shape[1]
        hashings = {
            (
                min(config.dimensions_per_block or dimensions, dim),
                config.anisotropic_threshold or threshold,
            )
            for dimensions, threshold in _HASHINGS
        }
        designs = [Design(kind, leaves, *hashing) for hashing in sorted(hashings)]
        if len(designs) == 1:
            return designs[0]
        found = [self._tried(part, design) for design in designs]
        points = [one[1] for one in found if one]
        return min(points, key=lambda point: point.cost).design if points else designs[0]

    def _sample(self, most: int) -> Catalogue:
        """The catalogue, or so many of its items."""
        if self._size <= most:
            return self._whole
        chosen = np.sort(np.random.default_rng(0).choice(self._size, most, replace=False))
        return Catalogue(self._whole.vectors[chosen], self._queries, [self._k])

    def _tried(self, part: Catalogue, design: Design) -> _Found | None:
        """Build it, and find the cheapest depth for k = 100."""
        searcher = Searcher(part.vectors, design)
        most = 1.0 if len(self._kinds) == 1 else _MOST_PARTITIONS_SEARCHED
        point = self._deepening.cheapest(part, searcher, self._k, most)
        if point is None:
            return None
        self.tried.append(point)
        return searcher, point


def _kinds(size: int) -> list[str]:
    """What is tried for so many items, from the simplest on."""
    if size < _APPROXIMATE_FROM:
        return [BRUTE_FORCE]
    kinds = [BRUTE_FORCE, QUANTIZED, HASHING] if size <= _SCORE_ALL_UP_TO else []
    return kinds + [PARTITIONS] * (size >= _PARTITIONS_FROM)
