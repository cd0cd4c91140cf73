"""Recall@k: the share of the true k nearest candidates that a search finds."""

import numpy as np
from numpy.typing import NDArray

# Relative to the product of the lengths of both vectors.
_ROUNDING_ERROR = 1e-6


def recall(
    found: NDArray[np.int32],
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    kth_best: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return recall@k of every query, float64 [M].

    A found item counts if its exact dot product is at least the k-th best one. So of several items
    with equal scores, any is right, and scores that an index computes do not matter.

    Args:
        found: int32 [M, k], distinct rows of ``vectors`` in each line, or -1 for no result.
        queries: float32 [M, D].
        vectors: float32 [N, D].
        kth_best: float32 [M], from :func:`trainer.index.exact.kth_best_scores` for this k.
    """
    shares = np.zeros(len(found))
    for line, (rows, query, bound) in enumerate(zip(found, queries, kth_best, strict=True)):
        candidates = vectors[np.maximum(rows, 0)]
        # Dot products that are summed in a different order differ in the last digits.
        tolerance = _ROUNDING_ERROR * np.linalg.norm(query) * np.linalg.norm(candidates, axis=1)
        correct = (candidates @ query >= bound - tolerance) & (rows >= 0)
        shares[line] = np.count_nonzero(correct) / len(rows)
    return shares
