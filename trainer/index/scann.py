"""ScaNN: scores a part of the catalogue, with hashed vectors first.

Guo et al., "Accelerating large-scale inference with anisotropic vector
quantization" (ICML 2020). The kind follows the size of the catalogue, by ScaNN's
own advice: brute force, then hashing with rescoring, then partitions too.
"""

import math
import uuid
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scann import scann_ops
from scann.scann_ops.py import scann_ops as raw_ops

from trainer.config import IndexConfig
from trainer.index.base import Index, widen

BRUTE_FORCE = "scann_brute_force"

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
        searcher, parameters = _build(vectors, config)
        # Behind a proxy, or TensorFlow would try to save it with the model.
        self._parameters = MappingProxyType(parameters)
        self._state = searcher.serialize_to_module()

    def is_exact(self) -> bool:
        """Whether this size of catalogue is searched by brute force."""
        return bool(self._parameters["kind"] == BRUTE_FORCE)

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


def _build(vectors: NDArray[np.float32], config: IndexConfig) -> tuple[Any, dict[str, Any]]:
    """A ScaNN searcher over ``vectors``, float32 [N, D], and what it was built with."""
    size = len(vectors)
    builder = scann_ops.builder(vectors, min(100, size), "dot_product")
    if size < config.hashing_from:
        return builder.score_brute_force().build(), {"kind": BRUTE_FORCE}
    parameters: dict[str, Any] = {
        "kind": "scann_hashing",
        "dimensions_per_block": config.dimensions_per_block,
        "anisotropic_threshold": config.anisotropic_threshold,
        "rescored": config.rescored,
        "rescored_per_k": config.rescored_per_k,
    }
    if size >= config.partitions_from:
        leaves = config.leaves or round(math.sqrt(size))
        searched = max(1, round(leaves * config.leaves_searched_share))
        parameters |= {
            "kind": "scann_partitions_hashing",
            "leaves": leaves,
            "leaves_searched": searched,
        }
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=searched,
            training_sample_size=min(size, 10 * _TRAINING_SAMPLE),
        )
    builder = builder.score_ah(
        config.dimensions_per_block,
        anisotropic_quantization_threshold=config.anisotropic_threshold,
        training_sample_size=min(size, _TRAINING_SAMPLE),
    ).reorder(config.rescored)
    return builder.build(), parameters
