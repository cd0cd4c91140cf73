"""Pools a history into one vector: a weighted sum of the embeddings of its items.

Training and the exported models share this TensorFlow code. Evaluation, and the check of exported
models, use the NumPy version in :mod:`trainer.model.towers.query`.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

#: Each range of ages 0, 1-2, 3-6, 7-14 ... has a weight; the last bucket holds all older items.
AGE_BUCKETS = 16


def age_buckets(ages: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the bucket of each age: int [N] -> int32 [N]. An age is the number of newer items."""
    buckets: NDArray[np.int32] = np.log2(np.asarray(ages) + 1.0).astype(np.int32)
    return np.minimum(buckets, AGE_BUCKETS - 1)


def bucket(ages: tf.Tensor) -> tf.Tensor:
    """Compute :func:`age_buckets` in TensorFlow: int32 [N] -> int32 [N]."""
    # 1.5 instead of 1, so that rounding errors of the logarithm do not change the bucket.
    exact = tf.math.log(tf.cast(ages, tf.float32) + 1.5) / tf.math.log(2.0)
    return tf.minimum(tf.cast(exact, tf.int32), AGE_BUCKETS - 1)


def pool(
    vectors: tf.Tensor, log_weights: tf.Tensor, rows: tf.Tensor, queries: Any, exponent: float
) -> tf.Tensor:
    """Divide the weighted sum of each query's vectors by the total weight ** ``exponent``.

    Args:
        vectors: float32 [N, D], the embeddings of all items of all histories.
        log_weights: float32 [N], the logarithms of the weights.
        rows: int32 [N], ascending: the query of each item.
        queries: int32 scalar, the number of queries B.
        exponent: 0 for a sum, 1 for a mean. In between, longer histories have longer vectors, but
            less than in proportion to their length.

    Returns:
        float32 [B, D]; zeros for an empty history.
    """
    weights = tf.exp(log_weights)
    total = tf.math.unsorted_segment_sum(weights, rows, queries)
    summed = tf.math.unsorted_segment_sum(vectors * weights[:, None], rows, queries)
    return summed / tf.pow(tf.maximum(total, 1e-9), exponent)[:, None]
