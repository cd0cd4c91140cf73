"""Search depth: how much of an index a search for k results looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


@dataclass(frozen=True)
class Depth:
    """A search depth.

    Attributes:
        k: number of results.
        leaves_searched: number of partitions searched, those nearest to the query; 0 for all of an
            index without partitions.
        rescored: number of candidates, the best by their hash codes, that are scored again with
            their vectors; 0 without hashing.
    """

    k: int
    leaves_searched: int
    rescored: int


class DepthTable(tf.Module):
    """Search depth for any k, interpolated linearly between the values of k that were tuned.

    Beyond the largest tuned k, depth grows in steps of that k.
    """

    def __init__(self, depths: Sequence[Depth], *, size: int, leaves: int) -> None:
        """Interpolate.

        Args:
            depths: depths that were tuned, ascending by k.
            size: number of vectors in the index.
            leaves: number of partitions in the index; 0 without partitions.
        """
        super().__init__()
        self._largest_k = depths[-1].k
        self._size, self._leaves = size, leaves
        ks = np.array([depth.k for depth in depths])
        leaves_searched = _by_k(ks, [depth.leaves_searched for depth in depths])
        rescored = _by_k(ks, [depth.rescored for depth in depths])
        # One table, and so one gather, because every op adds to the latency of a request.
        self._table = tf.constant(np.stack([leaves_searched, rescored], axis=1))

    def lookup(self, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return leaves searched and candidates rescored, int32 scalars, for k, at least 1."""
        multiple = 1 + (k - 1) // self._largest_k
        depth = self._table[tf.minimum(k, self._largest_k)] * multiple
        return (
            tf.minimum(depth[0], self._leaves),
            # ScaNN cannot return more candidates than it rescores.
            tf.minimum(tf.maximum(depth[1], k), self._size),
        )


def _by_k(ks: NDArray[np.int64], values: Sequence[int]) -> NDArray[np.int32]:
    """Interpolate values for every k from 0 to the largest, int32 [largest + 1]."""
    interpolated = np.interp(np.arange(ks[-1] + 1), ks, values)
    rounded_up: NDArray[np.int32] = np.ceil(interpolated).astype(np.int32)
    return rounded_up
