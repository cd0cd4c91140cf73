"""How deep an index has to look for k results."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


@dataclass(frozen=True)
class Depth:
    """What was found to be enough for ``k`` results.

    Attributes:
        k: results.
        leaves_searched: of the partitions, those nearest to the query; 0 without partitions.
        rescored: hashed candidates that are scored again; 0 without hashing.
    """

    k: int
    leaves_searched: int
    rescored: int


class DepthTable(tf.Module):
    """Depths for any k: measured at some, in a straight line between these.

    Beyond the largest measured k, which is enough for any page of results, depth grows in
    proportion.
    """

    def __init__(self, depths: list[Depth], *, size: int, leaves: int) -> None:
        """Of an index of ``size`` items in so many ``leaves``; ``depths`` ascend."""
        super().__init__()
        self._largest = depths[-1].k
        self._size, self._leaves = size, leaves
        ks = np.array([one.k for one in depths])
        self._leaves_searched = _filled(ks, np.array([one.leaves_searched for one in depths]))
        self._rescored = _filled(ks, np.array([one.rescored for one in depths]))
        # One gather each: a request pays for every op.
        self._table = tf.constant(np.stack([self._leaves_searched, self._rescored], axis=1))

    def at(self, k: int) -> Depth:
        """For one k, in NumPy."""
        times = 1 + (max(k, 1) - 1) // self._largest
        place = min(k, self._largest)
        return Depth(
            k,
            min(int(self._leaves_searched[place]) * times, self._leaves),
            min(max(int(self._rescored[place]) * times, k), self._size),
        )

    def lookup(self, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Leaves searched and rescored: int32 scalar, at least 1 -> two int32 scalars."""
        times = 1 + (k - 1) // self._largest
        depth = self._table[tf.minimum(k, self._largest)] * times
        return (
            tf.minimum(depth[0], self._leaves),
            # ScaNN may not be asked for more than it rescores.
            tf.minimum(tf.maximum(depth[1], k), self._size),
        )


def _filled(ks: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int32]:
    """Values for every k from 0 to the largest, int32 [K + 1]."""
    every: NDArray[np.int32] = np.ceil(np.interp(np.arange(ks[-1] + 1), ks, values)).astype(
        np.int32
    )
    return every
