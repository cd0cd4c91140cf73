"""ScaNN: scores a part of the catalogue, with hashed vectors first.

Guo et al., "Accelerating large-scale inference with anisotropic vector
quantization" (ICML 2020). The kind follows the size of the catalogue, by ScaNN's
own advice: brute force, then hashing with rescoring, then partitions too.
"""

import math
import uuid
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scann import scann_ops
from scann.scann_ops.py import scann_ops as raw_ops

from trainer.config import IndexConfig
from trainer.index.base import Index, widen

_AS_BUILT = -1
# More rows than this do not make the hash codes or the partitions better.
_TRAINING_SAMPLE = 100_000


class ScannIndex(Index):
    """A ScaNN searcher whose tensors live in the SavedModel.

    All signatures share one searcher: the op that restores it is given a
    ``shared_name``, unique to this export, because TensorFlow would hand out an
    older searcher of the same name in the same process.
    """

    def __init__(self, vectors: NDArray[np.float32], config: IndexConfig) -> None:
        """Build the index of ``vectors``, float32 [N, D]."""
        super().__init__()
        self._size = len(vectors)
        self._config = config
        self._shared_name = f"scann-{uuid.uuid4()}"
        self._parameters: dict[str, Any] = {}
        self._state = self._build(vectors).serialize_to_module()

    def is_exact(self) -> bool:
        """Whether this size of catalogue is searched by brute force."""
        return self._parameters["kind"] == "scann_brute_force"

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return dict(self._parameters)

    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """See the base class. Read from the searcher's own data: kept once."""
        dataset = tf.reshape(self._state.dataset, [self._size, -1])
        return tf.gather(dataset, rows)

    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the base class."""
        state = self._state
        searcher = raw_ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self._shared_name,
        )
        # ScaNN wants at least one neighbour; the columns too many are cut again.
        neighbours = tf.clip_by_value(k, 1, self._size)
        indices, distances = raw_ops.scann_search_batched(
            searcher, queries, neighbours, self._rescored(neighbours), _AS_BUILT, False
        )
        indices, distances = indices[:, :k], distances[:, :k]
        # Rows that come back short end in NaN distances.
        missing = tf.math.is_nan(distances)
        rows = tf.where(missing, -1, indices)
        scores = tf.where(missing, float("-inf"), distances)
        return widen(rows, scores, k)

    def _rescored(self, neighbours: tf.Tensor) -> tf.Tensor:
        """How many hashed candidates are scored exactly: never fewer than are returned."""
        if self.is_exact():
            return tf.constant(_AS_BUILT)
        per_k = tf.cast(tf.cast(neighbours, tf.float32) * self._config.rescored_per_k, tf.int32)
        return tf.minimum(tf.maximum(per_k, self._config.rescored), self._size)

    def _build(self, vectors: NDArray[np.float32]) -> Any:
        config = self._config
        default_k = min(100, self._size)
        builder = scann_ops.builder(vectors, default_k, "dot_product")
        if self._size < config.hashing_from:
            self._parameters = {"kind": "scann_brute_force"}
            return builder.score_brute_force().build()
        self._parameters = {
            "kind": "scann_hashing",
            "dimensions_per_block": config.dimensions_per_block,
            "anisotropic_threshold": config.anisotropic_threshold,
            "rescored": config.rescored,
            "rescored_per_k": config.rescored_per_k,
        }
        if self._size >= config.partitions_from:
            leaves = config.leaves or round(math.sqrt(self._size))
            searched = max(1, round(leaves * config.leaves_searched_share))
            self._parameters |= {
                "kind": "scann_partitions_hashing",
                "leaves": leaves,
                "leaves_searched": searched,
            }
            builder = builder.tree(
                num_leaves=leaves,
                num_leaves_to_search=searched,
                training_sample_size=min(self._size, 10 * _TRAINING_SAMPLE),
            )
        return (
            builder.score_ah(
                config.dimensions_per_block,
                anisotropic_quantization_threshold=config.anisotropic_threshold,
                training_sample_size=min(self._size, _TRAINING_SAMPLE),
            )
            .reorder(config.rescored)
            .build()
        )
