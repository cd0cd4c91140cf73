"""Chooses the fastest searcher on this machine that reaches the recall target.

Recall is measured against exact results. The cost of a search is the geometric mean of two times:
for a single query, and per query in a batch of 32. The tuner chooses in this order:

1. the hashing parameters, on a sample of the catalogue,
2. the number of partitions, on a larger sample,
3. the kind of searcher, at k = 100,
4. the search depth for every other k, on the chosen searcher.
"""

import math
import time
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.config import ScannConfig
from trainer.errors import IndexTuningError
from trainer.index.base import Notify, Queries
from trainer.index.scann.depth_tuning import DepthTuner, OperatingPoint, TuningResult
from trainer.index.scann.searcher import (
    BRUTE_FORCE,
    EXHAUSTIVE,
    HASHING,
    PARTITIONS,
    QUANTIZED,
    Design,
    Searcher,
)
from trainer.index.workload import Workload

#: The k at which a searcher is chosen.
K = 100
#: The values of k for which the search depth is tuned.
TUNED_KS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000)

# An approximate searcher must be at least this many times as fast as an exact searcher.
_REQUIRED_SPEEDUP = 1.5
# With fewer items, the overhead of a call exceeds the time for scoring all items.
_MIN_APPROXIMATE_ITEMS = 1_000
# The maximum catalogue size for kinds that score all items, and the minimum size for partitions.
_MAX_SCORE_ALL_ITEMS = 200_000
_MIN_PARTITIONS_ITEMS = 20_000
# A hash code has 16 possible values; learning each value takes at least one item.
_MIN_HASHED_ITEMS = 16
# The pairs of dimensions per block and anisotropic threshold to try, and the size of the sample.
_HASHING_CANDIDATES = ((2, 0.2), (2, 0.1), (2, 0.3), (4, 0.2))
_HASHING_SAMPLE = 200_000
# The numbers of partitions to try, as multiples of the square root of the number of items, and the
# size of the sample.
_LEAVES_PER_SQRT_ITEMS = (1.0, 2.0, 4.0)
_PARTITIONS_SAMPLE = 1_000_000
# The maximum share of partitions to search for k = 100. With more, partitions do not pay off.
_MAX_LEAVES_SHARE = 0.3


class _TriedSearcher(NamedTuple):
    """A searcher that reaches the target, and the searcher's cheapest point at k = 100."""

    searcher: Searcher
    point: OperatingPoint


class Tuner:
    """Builds the fastest searcher whose recall reaches the target."""

    def __init__(
        self,
        vectors: NDArray[np.float32],
        queries: Queries,
        kind: str,
        config: ScannConfig,
        target_recall: float,
        notify: Notify = lambda _: None,
    ) -> None:
        """Prepare for tuning.

        Args:
            vectors: candidate vectors, float32 [N, D].
            queries: queries for tuning. The searcher must reach the target for each kind of query.
            kind: the kind of searcher; "auto" tries the kinds that suit the catalogue size.
            config: the parameters of the searcher. Parameters that are 0 are tuned.
            target_recall: the recall@k to reach, from 0 to 1.
            notify: called with progress messages.

        Raises:
            IndexTuningError: the catalogue is too small for the settings.
        """
        self._started = time.perf_counter()
        self._config, self._target, self._notify = config, target_recall, notify
        self._queries, self._size, self._k = queries, len(vectors), min(K, len(vectors))
        _check_size(self._size, kind, config)
        self._workload = Workload(vectors, queries, TUNED_KS)
        self._automatic = kind == "auto"
        self._kinds = _kinds_for(self._size) if self._automatic else [kind]
        self._best_miss = (0.0, "none")
        self._tried: list[OperatingPoint] = []

    def tune(self) -> TuningResult:
        """Choose the searcher and its search depths.

        Raises:
            IndexTuningError: no searcher reaches the target; the message has the highest recall.
        """
        searcher, point = self._choose()
        depth_tuner = DepthTuner(self._workload, searcher, self._target)
        return TuningResult(
            searcher=searcher,
            by_k=self._tune_depths(depth_tuner, point),
            tried=self._tried,
            frontier=depth_tuner.frontier(point.depth),
            target_recall=self._target,
            reason=self._reason(searcher.design.kind),
            seconds=time.perf_counter() - self._started,
        )

    def _choose(self) -> _TriedSearcher:
        """Return the searcher with the lowest cost at k = 100."""
        best: _TriedSearcher | None = None
        for kind in self._kinds:
            self._notify(f"Trying {kind.replace('_', ' ')}")
            tried = self._try_partitions() if kind == PARTITIONS else self._try_score_all(kind)
            if tried is None:
                continue
            best_is_exact = best is not None and best.point.design.kind == BRUTE_FORCE
            speedup = _REQUIRED_SPEEDUP if best_is_exact else 1
            if best is None or tried.point.cost * speedup < best.point.cost:
                best = tried
        if best is None:
            recall, kind = self._best_miss
            raise IndexTuningError(
                f"no index reaches index.target_recall {self._target:g} at k = {self._k}. The "
                f"highest recall was {recall:.4f}, of the kind {kind}. Lower the target, or set "
                f"index.kind to {BRUTE_FORCE}, which is exact"
            )
        return best

    def _tune_depths(self, depth_tuner: DepthTuner, at_k: OperatingPoint) -> list[OperatingPoint]:
        """Return the cheapest operating point for each k; ``at_k`` is the point for k = 100."""
        if at_k.design.kind in EXHAUSTIVE:
            return [at_k]
        self._notify("Tuning the search depth for other values of k")
        points: list[OperatingPoint] = []
        for k in self._workload.ks:
            if k == self._k:
                points.append(at_k)
                continue
            point = depth_tuner.cheapest(k)
            if point is None:
                raise IndexTuningError(
                    f"index.target_recall {self._target:g} is reached at k = {self._k}, but not "
                    f"at k = {k}. Lower the target, or set index.kind to {BRUTE_FORCE}"
                )
            points.append(point)
        return points

    def _reason(self, kind: str) -> str:
        if not self._automatic:
            return "set by index.kind"
        if len(self._kinds) == 1:
            return f"the only kind for {self._size:,} items"
        if kind == BRUTE_FORCE:
            return f"exact, and no other kind was {_REQUIRED_SPEEDUP} times as fast"
        return f"the fastest kind with a recall of at least {self._target:g}"

    def _try_score_all(self, kind: str) -> _TriedSearcher | None:
        """Try a kind that scores the whole catalogue."""
        design = replace(self._hashing, kind=kind, leaves=0) if kind == HASHING else Design(kind)
        return self._try(self._workload, design)

    def _try_partitions(self) -> _TriedSearcher | None:
        """Try the configured number of leaves, or the number that is best on a sample."""
        if self._config.leaves:
            return self._try(self._workload, replace(self._hashing, leaves=self._config.leaves))
        sample = self._sample(_PARTITIONS_SAMPLE)
        best: _TriedSearcher | None = None
        best_factor = 0.0
        for factor in _LEAVES_PER_SQRT_ITEMS:
            leaves = round(factor * math.sqrt(len(sample.vectors)))
            tried = self._try(sample, replace(self._hashing, leaves=leaves))
            if tried and (best is None or tried.point.cost < best.point.cost):
                best, best_factor = tried, factor
        if best is None or sample is self._workload:
            return best
        leaves = round(best_factor * math.sqrt(self._size))
        return self._try(self._workload, replace(self._hashing, leaves=leaves))

    @cached_property
    def _hashing(self) -> Design:
        """A design with the hashing parameters that are best on a sample."""
        config = self._config
        kind = PARTITIONS if PARTITIONS in self._kinds else HASHING
        sample = self._sample(_HASHING_SAMPLE)
        leaves = round(2 * math.sqrt(len(sample.vectors))) if kind == PARTITIONS else 0
        dim = sample.vectors.shape[1]
        candidates = {
            (
                min(config.dimensions_per_block or dimensions, dim),
                config.anisotropic_threshold or threshold,
            )
            for dimensions, threshold in _HASHING_CANDIDATES
        }
        designs = [Design(kind, leaves, *parameters) for parameters in sorted(candidates)]
        if len(designs) == 1:
            return designs[0]
        points = [tried.point for design in designs if (tried := self._try(sample, design))]
        return min(points, key=lambda point: point.cost).design if points else designs[0]

    def _sample(self, items: int) -> Workload:
        """Return a workload over a sample of at most ``items`` items."""
        if self._size <= items:
            return self._workload
        rows = np.sort(np.random.default_rng(0).choice(self._size, items, replace=False))
        return Workload(self._workload.vectors[rows], self._queries, [self._k])

    def _try(self, workload: Workload, design: Design) -> _TriedSearcher | None:
        """Build a searcher and tune it for k = 100; return None if it misses the target."""
        searcher = Searcher(workload.vectors, design)
        max_leaves_share = 1.0 if len(self._kinds) == 1 else _MAX_LEAVES_SHARE
        depth_tuner = DepthTuner(workload, searcher, self._target)
        point = depth_tuner.cheapest(self._k, max_leaves_share)
        if point is None:
            self._best_miss = max(self._best_miss, (depth_tuner.best_recall, design.kind))
            return None
        self._tried.append(point)
        return _TriedSearcher(searcher, point)


def _check_size(size: int, kind: str, config: ScannConfig) -> None:
    if kind in (HASHING, PARTITIONS) and size < _MIN_HASHED_ITEMS:
        raise IndexTuningError(
            f"index.kind {kind} needs at least {_MIN_HASHED_ITEMS} items, but there are only {size}"
        )
    if config.leaves > size:
        raise IndexTuningError(
            f"index.leaves {config.leaves:,} is more than the number of items, {size:,}"
        )


def _kinds_for(size: int) -> list[str]:
    """Return the kinds to try for a catalogue of this size, from simple to complex."""
    if size < _MIN_APPROXIMATE_ITEMS:
        return [BRUTE_FORCE]
    kinds = [BRUTE_FORCE, QUANTIZED, HASHING] if size <= _MAX_SCORE_ALL_ITEMS else []
    return kinds + ([PARTITIONS] if size >= _MIN_PARTITIONS_ITEMS else [])
