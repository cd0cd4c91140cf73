"""Brute force: one matrix product, the true top k, ops of stock TensorFlow only."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.index.base import Index, widen


class ExactIndex(Index):
    """Scores every candidate. Of equal scores the lower row comes first."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """An index of ``vectors``, float32 [N, D]."""
        super().__init__()
        self.dim = vectors.shape[1]
        self._vectors = tf.Variable(vectors, trainable=False, name="candidate_vectors")

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {"kind": "exact"}

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        return tf.gather(self._vectors, rows)

    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the base class."""
        scores = tf.linalg.matmul(queries, self._vectors, transpose_b=True)
        best = tf.math.top_k(scores, k=tf.minimum(k, tf.shape(self._vectors)[0]), sorted=True)
        return widen(best.indices, best.values, k)
