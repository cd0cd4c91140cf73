"""The ScaNN index inside a SavedModel, and its builder."""

import uuid
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.config import ScannConfig
from trainer.index.base import Index, IndexBuilder, Notify, Queries, pad_results
from trainer.index.scann.depth_tuning import TuningResult
from trainer.index.scann.searcher import HASHING, PARTITIONS, QUANTIZED, Depth, search_op
from trainer.index.scann.tuner import Tuner

# Copies of the vectors at peak memory while building: the argument, the searcher's copy, the
# serialized tensors, the variables to save, and temporary copies.
_COPIES_TO_BUILD = 6.5
# A model server holds the vectors in a variable and in the searcher.
_COPIES_TO_SERVE = 2


class ScannIndex(Index):
    """A ScaNN searcher whose tensors are variables of the SavedModel.

    All signatures share one searcher. TensorFlow looks it up by the ``shared_name`` of the op that
    restores it. The name must be unique: if an earlier model in the same process had used the same
    name, TensorFlow would return that model's searcher.
    """

    op_namespaces: ClassVar[tuple[str, ...]] = ("Scann",)

    def __init__(self, vectors: NDArray[np.float32], tuned: TuningResult) -> None:
        """Serialize the tuned searcher for ``vectors``, float32 [N, D]."""
        super().__init__()
        self._size, self.dim = vectors.shape
        self._shared_name = f"scann-{uuid.uuid4()}"
        # A read-only view, because TensorFlow would track and save a plain dictionary.
        self._description = MappingProxyType(tuned.as_dict())
        design = tuned.searcher.design
        self._state = tuned.searcher.state()
        self._depths = None
        if design.kind in (HASHING, PARTITIONS):
            depths = [point.depth for point in tuned.by_k]
            self._depths = DepthTable(depths, size=self._size, leaves=design.leaves)
        # Only quantized searchers do not contain the original vectors.
        self._vectors = None
        if design.kind == QUANTIZED:
            self._vectors = tf.Variable(vectors, trainable=False, name="candidate_vectors")

    def description(self) -> dict[str, Any]:
        return dict(self._description)

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        if self._vectors is not None:
            return tf.gather(self._vectors, rows)
        return tf.gather(tf.reshape(self._state.dataset, [self._size, self.dim]), rows)

    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # ScaNN needs k >= 1. For k = 0, the one column of results is dropped below.
        searched_k = tf.clip_by_value(k, 1, self._size)
        leaves_and_rescored = None if self._depths is None else self._depths.lookup(searched_k)
        rows, scores = search_op(
            self._state, self._shared_name, queries, searched_k, leaves_and_rescored
        )
        rows, scores = rows[:, :k], scores[:, :k]
        missing = tf.math.is_nan(scores)
        rows = tf.where(missing, -1, rows)
        if self._vectors is not None:
            # A quantized searcher computes scores from rounded vectors, so recompute the scores.
            scores = tf.linalg.matvec(self.vectors(tf.maximum(rows, 0)), queries)
        scores = tf.where(missing, float("-inf"), scores)
        if self._vectors is not None:
            order = tf.argsort(scores, direction="DESCENDING", stable=True)
            rows = tf.gather(rows, order, batch_dims=1)
            scores = tf.gather(scores, order, batch_dims=1)
        return pad_results(rows, scores, k)


class ScannBuilder(IndexBuilder):
    """Builds the fastest ScaNN index that reaches the recall target on this machine."""

    def __init__(self, kind: str, config: ScannConfig) -> None:
        """Create a builder for one kind of searcher; "auto" tries several kinds."""
        self._kind, self._config = kind, config

    def build(
        self, vectors: NDArray[np.float32], queries: Queries, target_recall: float, notify: Notify
    ) -> ScannIndex:
        notify(f"Searching for the fastest index with a recall@100 of {target_recall:.0%}")
        tuner = Tuner(vectors, queries, self._kind, self._config, target_recall, notify)
        return ScannIndex(vectors, tuner.tune())

    def bytes_to_build(self, items: int, dim: int) -> int:
        return round(_COPIES_TO_BUILD * 4 * items * dim)

    def bytes_to_serve(self, items: int, dim: int) -> int:
        # Hash codes have 4 bits for each block of two dimensions.
        return items * (_COPIES_TO_SERVE * 4 * dim + dim // 4)


class DepthTable(tf.Module):
    """The search depth for any k, interpolated linearly between the tuned values of k.

    For a larger k, the depth is a multiple of the depth at the largest tuned k.
    """

    def __init__(self, depths: Sequence[Depth], *, size: int, leaves: int) -> None:
        """Interpolate tuned depths, ascending by k, of an index with ``size`` vectors."""
        super().__init__()
        self._largest_k = depths[-1].k
        self._size, self._leaves = size, leaves
        ks = np.array([depth.k for depth in depths])
        leaves_searched = _by_k(ks, [depth.leaves_searched for depth in depths])
        rescored = _by_k(ks, [depth.rescored for depth in depths])
        # A single table needs a single gather, and every op adds to the latency of a request.
        self._table = tf.constant(np.stack([leaves_searched, rescored], axis=1))

    def lookup(self, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return how many leaves to search and candidates to rescore for k >= 1, int32 scalars."""
        multiple = 1 + (k - 1) // self._largest_k
        depth = self._table[tf.minimum(k, self._largest_k)] * multiple
        return (
            tf.minimum(depth[0], self._leaves),
            # ScaNN cannot return more candidates than it rescores.
            tf.minimum(tf.maximum(depth[1], k), self._size),
        )


def _by_k(ks: NDArray[np.int64], values: Sequence[int]) -> NDArray[np.int32]:
    """Interpolate ``values`` for every k from 0 to the largest of ``ks``: int32 [max(ks) + 1]."""
    interpolated: NDArray[np.float64] = np.interp(np.arange(ks[-1] + 1), ks, values)
    return np.ceil(interpolated).astype(np.int32)
