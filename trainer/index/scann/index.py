"""The ScaNN index inside a SavedModel."""

import uuid
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.index.base import Index, pad_results
from trainer.index.scann.depth import DepthTable
from trainer.index.scann.operating_points import TuningResult
from trainer.index.scann.searcher import HASHING, PARTITIONS, QUANTIZED, search_op


class ScannIndex(Index):
    """A ScaNN searcher whose tensors are variables of the SavedModel.

    All signatures share one searcher, which TensorFlow looks up by the ``shared_name`` of the op
    that restores it. The name is unique to this index: with a name that an earlier model in the
    same process has used, TensorFlow would return that model's searcher.
    """

    op_namespaces: ClassVar[tuple[str, ...]] = ("Scann",)

    def __init__(self, vectors: NDArray[np.float32], tuned: TuningResult) -> None:
        """Serialize the tuned searcher of ``vectors``, float32 [N, D]."""
        super().__init__()
        self._size, self.dim = vectors.shape
        self._shared_name = f"scann-{uuid.uuid4()}"
        # TensorFlow would track, and save, a plain dictionary.
        self._description = MappingProxyType(tuned.as_dict())
        design = tuned.searcher.design
        self._state = tuned.searcher.state()
        self._depths = None
        if design.kind in (HASHING, PARTITIONS):
            depths = [point.depth for point in tuned.by_k]
            self._depths = DepthTable(depths, size=self._size, leaves=design.leaves)
        # All but quantized searchers contain the original vectors.
        self._vectors = None
        if design.kind == QUANTIZED:
            self._vectors = tf.Variable(vectors, trainable=False, name="candidate_vectors")

    def description(self) -> dict[str, Any]:
        """See :meth:`Index.description`."""
        return dict(self._description)

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """See :meth:`Index.vectors`."""
        if self._vectors is not None:
            return tf.gather(self._vectors, rows)
        return tf.gather(tf.reshape(self._state.dataset, [self._size, self.dim]), rows)

    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See :meth:`Index.search`."""
        # ScaNN needs a k of at least 1; surplus columns are dropped below.
        searched_k = tf.clip_by_value(k, 1, self._size)
        leaves_and_rescored = None if self._depths is None else self._depths.lookup(searched_k)
        rows, scores = search_op(
            self._state, self._shared_name, queries, searched_k, leaves_and_rescored
        )
        rows, scores = rows[:, :k], scores[:, :k]
        missing = tf.math.is_nan(scores)
        rows = tf.where(missing, -1, rows)
        if self._vectors is not None:
            # A quantized searcher returns scores of rounded vectors.
            scores = tf.linalg.matvec(self.vectors(tf.maximum(rows, 0)), queries)
        scores = tf.where(missing, float("-inf"), scores)
        if self._vectors is not None:
            order = tf.argsort(scores, direction="DESCENDING", stable=True)
            rows = tf.gather(rows, order, batch_dims=1)
            scores = tf.gather(scores, order, batch_dims=1)
        return pad_results(rows, scores, k)
