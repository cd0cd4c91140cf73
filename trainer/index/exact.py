"""The exact index, which scores all vectors with one matrix product in stock TensorFlow.

Approximate indexes are compared with exact results. During tuning, :func:`kth_best_scores` computes
the exact scores; when a version is verified, the exported exact model does. :func:`recall` compares
the results of a search with the exact scores.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.index.base import Index, IndexBuilder, Notify, Queries, pad_results

# The maximum number of scores computed at a time: 128 MB of float32.
_SCORES_PER_BLOCK = 32_000_000
# The rounding error of a dot product, relative to the product of the two vectors' lengths.
_ROUNDING_ERROR = 1e-6


class ExactIndex(Index):
    """Scores every candidate. Among equal scores, the candidate with the lower row comes first."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Copy the candidate vectors, float32 [N, D], into a variable."""
        super().__init__()
        self.dim = vectors.shape[1]
        self._vectors = tf.Variable(vectors, trainable=False, name="candidate_vectors")

    def description(self) -> dict[str, Any]:
        return {"kind": "exact"}

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._vectors, rows)

    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores = tf.linalg.matmul(queries, self._vectors, transpose_b=True)
        best = tf.math.top_k(scores, k=tf.minimum(k, tf.shape(self._vectors)[0]), sorted=True)
        return pad_results(best.indices, best.values, k)


class ExactBuilder(IndexBuilder):
    """Builds an :class:`ExactIndex`, which needs no tuning."""

    def build(
        self, vectors: NDArray[np.float32], queries: Queries, target_recall: float, notify: Notify
    ) -> ExactIndex:
        del queries, target_recall, notify
        return ExactIndex(vectors)


def kth_best_scores(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], ks: Sequence[int]
) -> NDArray[np.float32]:
    """Return the exact score of the k-th best vector of every query, float32 [M, len(ks)].

    Args:
        vectors: float32 [N, D].
        queries: float32 [M, D].
        ks: values from 1 to N.
    """
    largest_k = max(ks)
    block_rows = max(1, _SCORES_PER_BLOCK // max(len(queries), 1))
    best = tf.fill([len(queries), 0], 0.0)
    # Scoring in blocks keeps memory use independent of the catalogue size.
    for start in range(0, len(vectors), block_rows):
        scores = tf.linalg.matmul(queries, vectors[start : start + block_rows], transpose_b=True)
        block_best = tf.math.top_k(scores, min(largest_k, scores.shape[1]), sorted=False).values
        candidates = tf.concat([best, block_best], axis=1)
        best = tf.math.top_k(candidates, min(largest_k, candidates.shape[1]), sorted=True).values
    kth_best: NDArray[np.float32] = best.numpy()[:, np.array(ks) - 1]
    return kth_best


def recall(
    results: NDArray[np.int32],
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    kth_best: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return recall@k for each query, float64 [M].

    A result is correct if its exact dot product is at least the k-th best dot product. So any of
    several items with equal scores is correct, and the scores that an index computes do not matter.

    Args:
        results: int32 [M, k], for each query distinct rows of ``vectors``, or -1 for no result.
        queries: float32 [M, D].
        vectors: float32 [N, D].
        kth_best: float32 [M], from :func:`kth_best_scores` for this k.
    """
    shares = np.zeros(len(results))
    for line, (rows, query, bound) in enumerate(zip(results, queries, kth_best, strict=True)):
        candidates = vectors[np.maximum(rows, 0)]
        # The index may sum products in a different order, which changes the last digits.
        tolerance = _ROUNDING_ERROR * np.linalg.norm(query) * np.linalg.norm(candidates, axis=1)
        correct = (candidates @ query >= bound - tolerance) & (rows >= 0)
        shares[line] = np.count_nonzero(correct) / len(rows)
    return shares
