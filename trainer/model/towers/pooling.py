"""One vector for a history: a weighted sum of its items' vectors.

The only place where TensorFlow pools; training and the exported models both come here. NumPy's
version of the same, which evaluation uses and exports are verified with, is in
:mod:`trainer.model.towers.query`.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

#: Ages 0, 1-2, 3-6, 7-14 ... each have a weight of their own; the last is all that is older.
AGE_BUCKETS = 16


def age_buckets(ages: NDArray[np.integer]) -> NDArray[np.int32]:
    """The bucket of each age: int [N] -> int32 [N]. Age is the number of newer items."""
    buckets: NDArray[np.int32] = np.log2(np.asarray(ages) + 1.0).astype(np.int32)
    return np.minimum(buckets, AGE_BUCKETS - 1)


def bucket(ages: tf.Tensor) -> tf.Tensor:
    """:func:`age_buckets` in TensorFlow: int32 [N] -> int32 [N]."""
    # A half more than a whole number: where the logarithm is a hair too small, the bucket is not.
    exact = tf.math.log(tf.cast(ages, tf.float32) + 1.5) / tf.math.log(2.0)
    return tf.minimum(tf.cast(exact, tf.int32), AGE_BUCKETS - 1)


def pool(
    vectors: tf.Tensor, log_weights: tf.Tensor, rows: tf.Tensor, queries: Any, exponent: float
) -> tf.Tensor:
    """Sum each query's vectors by weight; divide by the sum of the weights to ``exponent``.

    Args:
        vectors: float32 [N, D], of all the items of all histories.
        log_weights: float32 [N].
        rows: int32 [N], ascending: whose item each is.
        queries: int32 scalar, their number B.
        exponent: 0 for a sum, 1 for a mean; between, a longer history says more, but not as
            much more as it is longer.

    Returns:
        float32 [B, D]; zeros for an empty history.
    """
    weights = tf.exp(log_weights)
    total = tf.math.unsorted_segment_sum(weights, rows, queries)
    summed = tf.math.unsorted_segment_sum(vectors * weights[:, None], rows, queries)
    return summed / tf.pow(tf.maximum(total, 1e-9), exponent)[:, None]
