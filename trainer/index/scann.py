"""ScaNN: scores a part of the catalogue, with hashed vectors first."""

import uuid
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.index.base import Index, widen
from trainer.index.depth import DepthTable
from trainer.index.points import Tuned
from trainer.index.searcher import HASHING, PARTITIONS, QUANTIZED, search_op


class ScannIndex(Index):
    """A ScaNN searcher whose tensors live in the SavedModel.

    All signatures share one searcher: the op that restores it is given a ``shared_name``,
    unique to this export, because TensorFlow would hand out an older searcher of the same name
    in the same process.
    """

    def __init__(self, vectors: NDArray[np.float32], tuned: Tuned) -> None:
        """The index that was ``tuned`` for ``vectors``, float32 [N, D]."""
        super().__init__()
        self._size, self.dim = vectors.shape
        self._shared_name = f"scann-{uuid.uuid4()}"
        # Behind a proxy, or TensorFlow would try to save it with the model.
        self._parameters = MappingProxyType(tuned.described())
        design = tuned.searcher.design
        self._state = tuned.searcher.state()
        self._depths = None
        if design.kind in (HASHING, PARTITIONS):
            self._depths = DepthTable(tuned.depths, size=self._size, leaves=design.leaves)
        # The searcher's own data is read where it has them as they were.
        self._vectors = None
        if design.kind == QUANTIZED:
            self._vectors = tf.Variable(vectors, trainable=False, name="candidate_vectors")

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return dict(self._parameters)

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        if self._vectors is not None:
            return tf.gather(self._vectors, rows)
        # Read from the searcher's own data: kept once.
        return tf.gather(tf.reshape(self._state.dataset, [self._size, self.dim]), rows)

    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the base class."""
        # ScaNN wants at least one neighbour; the columns too many are cut again.
        neighbours = tf.clip_by_value(k, 1, self._size)
        depth = None if self._depths is None else self._depths.lookup(neighbours)
        rows, scores = search_op(self._state, self._shared_name, queries, neighbours, depth)
        rows, scores = rows[:, :k], scores[:, :k]
        # Rows that come back short end in NaN.
        missing = tf.math.is_nan(scores)
        rows = tf.where(missing, -1, rows)
        if self._vectors is not None:
            # Scores of rounded vectors are rounded.
            scores = tf.linalg.matvec(self.vectors(tf.maximum(rows, 0)), queries)
        scores = tf.where(missing, float("-inf"), scores)
        if self._vectors is not None:
            order = tf.argsort(scores, direction="DESCENDING", stable=True)
            rows = tf.gather(rows, order, batch_dims=1)
            scores = tf.gather(scores, order, batch_dims=1)
        return widen(rows, scores, k)
