"""ScaNN searchers: how one is built, and what it answers.

Guo et al., "Accelerating large-scale inference with anisotropic vector quantization" (ICML 2020).
"""

import weakref
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scann import scann_ops
from scann.scann_ops.py import scann_ops as raw_ops

from trainer.index.depth import Depth

BRUTE_FORCE = "brute_force"
QUANTIZED = "quantized_brute_force"
HASHING = "hashing"
PARTITIONS = "partitions"

# More rows than this do not make the hash codes or the partitions better.
_HASHING_SAMPLE = 100_000
_PARTITIONS_SAMPLE = 250_000
_PARTITIONS_SAMPLE_PER_LEAF = 50
_AS_BUILT = -1
_PART = 256


@dataclass(frozen=True)
class Design:
    """How a searcher is built.

    Attributes:
        kind: every vector scored; every vector scored with 8 bits a dimension; all vectors'
            hash codes scored and the best rescored; or these of the nearest partitions.
        leaves: partitions; 0 where there are none.
        dimensions_per_block: dimensions that share one hash code of 4 bits; 0 without hashing.
        anisotropic_threshold: of the hash codes' training; 0 without hashing.
    """

    kind: str
    leaves: int = 0
    dimensions_per_block: int = 0
    anisotropic_threshold: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Of what there is, by name."""
        return {name: value for name, value in asdict(self).items() if value}


class Searcher:
    """A ScaNN searcher in this process."""

    def __init__(self, vectors: NDArray[np.float32], design: Design) -> None:
        """Build it over ``vectors``, float32 [N, D]."""
        size = len(vectors)
        self.design, self.size = design, size
        builder = scann_ops.builder(vectors, min(100, size), "dot_product")
        if design.kind in (BRUTE_FORCE, QUANTIZED):
            builder = builder.score_brute_force(design.kind == QUANTIZED)
        else:
            if design.kind == PARTITIONS:
                sample = max(_PARTITIONS_SAMPLE, _PARTITIONS_SAMPLE_PER_LEAF * design.leaves)
                builder = builder.tree(
                    num_leaves=design.leaves,
                    num_leaves_to_search=design.leaves,
                    training_sample_size=min(size, sample),
                )
            builder = builder.score_ah(
                design.dimensions_per_block,
                anisotropic_quantization_threshold=design.anisotropic_threshold,
                training_sample_size=min(size, _HASHING_SAMPLE),
            ).reorder(min(100, size))
        self._searcher = builder.build()
        # TensorFlow keeps it by its name until it is told.
        weakref.finalize(
            self, tf.raw_ops.DestroyResourceOp, resource=self._searcher.searcher_handle
        ).atexit = False

    def state(self) -> tf.Module:
        """All that restores the searcher, as variables."""
        return self._searcher.serialize_to_module()

    def search(self, queries: NDArray[np.float32], depth: Depth) -> NDArray[np.int32]:
        """Rows of the ``depth.k`` best: float32 [M, D] -> int32 [M, k], -1 where none is found."""
        rows, distances = raw_ops.scann_search_batched(
            self._searcher.searcher_handle,
            queries,
            depth.k,
            depth.rescored or _AS_BUILT,
            depth.leaves_searched or _AS_BUILT,
            False,
        )
        found: NDArray[np.int32] = tf.where(tf.math.is_nan(distances), -1, rows).numpy()
        return found


def search_op(
    state: Any, shared_name: str, queries: tf.Tensor, k: tf.Tensor, depth: tuple[Any, Any] | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The search of a saved searcher in a graph: rows and scores, [B, k], NaN where none is found.

    Args:
        state: of :meth:`Searcher.state`.
        shared_name: of the searcher in the process that loads it.
        queries: float32 [B, D].
        k: int32 scalar, from 1 to N.
        depth: leaves searched and rescored, int32 scalars; None where everything is scored.
    """
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
        shared_name=shared_name,
    )
    leaves, rescored = depth if depth is not None else (_AS_BUILT, _AS_BUILT)
    # ScaNN divides a batch among its threads in parts of 256.
    parallel = tf.shape(queries)[0] > _PART
    rows, distances = raw_ops.scann_search_batched(searcher, queries, k, rescored, leaves, parallel)
    return rows, distances
