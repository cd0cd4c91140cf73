"""How much of the true best an index finds: by item, never by the scores it gives."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

# Of a block of scores: 128 MB of float32.
_SCORES_AT_ONCE = 32_000_000
# Of the product of two vectors' lengths.
_ROUNDING = 1e-6


def kth_best(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], ks: list[int]
) -> NDArray[np.float32]:
    """The exact score of the k-th best vector of every query, for several k.

    Args:
        vectors: float32 [N, D].
        queries: float32 [M, D].
        ks: each from 1 to N.

    Returns:
        float32 [M, len(ks)].
    """
    largest = max(ks)
    rows = max(1, _SCORES_AT_ONCE // max(len(queries), 1))
    best = tf.fill([len(queries), 0], 0.0)
    # The catalogue passes through in blocks: memory does not grow with it.
    for start in range(0, len(vectors), rows):
        scores = tf.linalg.matmul(queries, vectors[start : start + rows], transpose_b=True)
        block = tf.math.top_k(scores, min(largest, scores.shape[1]), sorted=False).values
        joined = tf.concat([best, block], axis=1)
        best = tf.math.top_k(joined, min(largest, joined.shape[1]), sorted=True).values
    found: NDArray[np.float32] = best.numpy()[:, np.array(ks) - 1]
    return found


def recall(
    found: NDArray[np.int32],
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    kth: NDArray[np.float32],
) -> NDArray[np.float64]:
    """The share of the true k best that was found, by query.

    An item is one of them if its own exact dot product is not below the k-th best one, so that
    of items that score alike any will do.

    Args:
        found: int32 [M, k], rows of ``vectors``, each at most once in a line; -1 for none.
        queries: float32 [M, D].
        vectors: float32 [N, D].
        kth: float32 [M], of :func:`kth_best` for this k.

    Returns:
        float64 [M].
    """
    shares = np.zeros(len(found))
    for line, (rows, query, bound) in enumerate(zip(found, queries, kth, strict=True)):
        some = vectors[np.maximum(rows, 0)]
        # Sums of products in another order differ in the last digits.
        slack = _ROUNDING * np.linalg.norm(query) * np.linalg.norm(some, axis=1)
        right = (some @ query >= bound - slack) & (rows >= 0)
        shares[line] = np.count_nonzero(right) / len(rows)
    return shares
