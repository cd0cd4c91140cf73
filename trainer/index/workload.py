"""What indexes are judged on: vectors, queries, and the exact answers."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.index import recall
from trainer.index.depth import Depth
from trainer.index.searcher import Searcher

_MOST_QUERIES = 1_000
# The exact answers of so many scores are computed at the most, and of so many neighbours.
_MOST_SCORES = 1_000_000_000
_MOST_NEIGHBOURS = 100_000
#: Queries of the larger of the two batches that are timed.
BATCH = 32
_ROUNDS = 5


class Catalogue:
    """Vectors with queries of one or more kinds, and how well and fast these are answered."""

    def __init__(
        self,
        vectors: NDArray[np.float32],
        queries: Mapping[str, NDArray[np.float32]],
        ks: Sequence[int],
    ) -> None:
        """Compute the exact answers.

        Args:
            vectors: float32 [N, D].
            queries: float32 [M, D] of each kind; a spread of up to 1,000 is used.
            ks: for which recall will be asked.
        """
        self.vectors = vectors
        self.ks = sorted({min(k, len(vectors)) for k in ks})
        most = max(50, min(_MOST_QUERIES, _MOST_SCORES // (len(vectors) * len(queries))))
        self._queries = [spread(some, most) for some in queries.values()]
        self._kth = [self._best(some) for some in self._queries]

    def recall(self, searcher: Searcher, depth: Depth) -> tuple[float, float]:
        """The mean over the queries of the kind that fares worst, and its standard error."""
        found = []
        for every, bounds in zip(self._queries, self._kth, strict=True):
            kth = bounds[depth.k]
            some = every[: len(kth)]
            share = recall.recall(searcher.search(some, depth), some, self.vectors, kth)
            found.append((float(share.mean()), float(share.std() / math.sqrt(len(share)))))
        return min(found)

    def seconds(self, searcher: Searcher, depth: Depth) -> tuple[float, float]:
        """Of one query alone and of a batch of 32.

        The least of some rounds: what else runs on the machine only ever adds.
        """
        queries = self._queries[0]
        together = np.resize(queries, (BATCH, queries.shape[1]))
        alone = np.split(together, BATCH)

        def one_by_one() -> None:
            for query in alone:
                searcher.search(query, depth)

        def batch() -> None:
            searcher.search(together, depth)

        batch()
        times = [(_timed(one_by_one) / BATCH, _timed(batch)) for _ in range(_ROUNDS)]
        return min(one for one, _ in times), min(of_32 for _, of_32 in times)

    def _best(self, queries: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """The k-th best scores, by k; fewer queries will do where each has many neighbours."""
        found: dict[int, NDArray[np.float32]] = {}
        by_count: dict[int, list[int]] = {}
        for k in self.ks:
            by_count.setdefault(min(len(queries), max(20, _MOST_NEIGHBOURS // k)), []).append(k)
        for count, ks in by_count.items():
            kth = recall.kth_best(self.vectors, queries[:count], ks)
            found |= {k: kth[:, place] for place, k in enumerate(ks)}
        return found


def spread(rows: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """So many of the rows at the most, from all over, in an order that is always the same."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:most]
    return np.ascontiguousarray(rows[chosen])


def _timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
