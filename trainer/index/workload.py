"""Measures the recall and latency of a search over candidate vectors with sample queries."""

import math
import timeit
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.index.base import Queries
from trainer.index.exact import kth_best_scores, recall

#: The number of queries in a batch, for measuring batch latency.
BATCH_SIZE = 32

# Exact scores are computed for up to _MAX_QUERIES queries of each kind; for fewer queries, but at
# least _MIN_QUERIES, if more than _MAX_SCORES scores would be needed.
_MAX_QUERIES = 1_000
_MAX_SCORES = 1_000_000_000
_MIN_QUERIES = 50
# Recall@k uses up to _MAX_NEIGHBOURS / k of these queries, but at least _MIN_QUERIES_PER_K.
_MAX_NEIGHBOURS = 100_000
_MIN_QUERIES_PER_K = 20
_TIMING_ROUNDS = 5

#: A search function: queries float32 [M, D] -> rows int32 [M, k], with -1 for missing results.
Search = Callable[[NDArray[np.float32]], NDArray[np.int32]]


class RecallEstimate(NamedTuple):
    """The mean of recall@k over a sample of queries, and its standard error."""

    mean: float
    standard_error: float


class Latency(NamedTuple):
    """The seconds for a single query, and for a batch of ``BATCH_SIZE`` queries."""

    single_s: float
    batch_s: float


class Workload:
    """Candidate vectors, and sample queries of one or more kinds with their exact scores.

    Attributes:
        vectors: float32 [N, D].
        ks: the values of k for which recall can be measured, ascending, at most N.
    """

    def __init__(self, vectors: NDArray[np.float32], queries: Queries, ks: Sequence[int]) -> None:
        """Draw samples of the queries and compute their exact scores.

        Args:
            vectors: float32 [N, D].
            queries: queries by kind, of which up to 1,000 per kind are used.
            ks: the values of k to measure recall for; values above N become N.
        """
        self.vectors = vectors
        self.ks = sorted({min(k, len(vectors)) for k in ks})
        limit = min(_MAX_QUERIES, _MAX_SCORES // (len(vectors) * len(queries)))
        self._queries = [_sample(rows, max(_MIN_QUERIES, limit)) for rows in queries.values()]
        self._kth_best = [self._kth_best_by_k(rows) for rows in self._queries]

    def recall(self, search: Search, k: int) -> RecallEstimate:
        """Return recall@k of the kind of query with the lowest recall@k."""
        estimates = []
        for queries, kth_best_by_k in zip(self._queries, self._kth_best, strict=True):
            kth_best = kth_best_by_k[k]
            sample = queries[: len(kth_best)]
            shares = recall(search(sample), sample, self.vectors, kth_best)
            error = float(shares.std() / math.sqrt(len(shares)))
            estimates.append(RecallEstimate(float(shares.mean()), error))
        return min(estimates)

    def latency(self, search: Search) -> Latency:
        """Return the latency of a search.

        The result is the minimum of several rounds, because other load can only increase latency.
        """
        queries = self._queries[0]
        batch = np.resize(queries, (BATCH_SIZE, queries.shape[1]))
        singles = np.split(batch, BATCH_SIZE)
        search(batch)  # Warm up.
        singles_s, batch_s = (
            min(timeit.repeat(action, number=1, repeat=_TIMING_ROUNDS))
            for action in (lambda: [search(query) for query in singles], lambda: search(batch))
        )
        return Latency(singles_s / BATCH_SIZE, batch_s)

    def _kth_best_by_k(self, queries: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """Return, for each k, the exact k-th best scores; a larger k uses fewer queries."""
        ks_by_count: dict[int, list[int]] = {}
        for k in self.ks:
            count = min(len(queries), max(_MIN_QUERIES_PER_K, _MAX_NEIGHBOURS // k))
            ks_by_count.setdefault(count, []).append(k)
        result: dict[int, NDArray[np.float32]] = {}
        for count, ks in ks_by_count.items():
            scores = kth_best_scores(self.vectors, queries[:count], ks)
            result |= {k: scores[:, column] for column, k in enumerate(ks)}
        return result


def _sample(rows: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    """Return a random sample of up to ``limit`` rows; the sample is the same in every run."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:limit]
    return np.ascontiguousarray(rows[chosen])
