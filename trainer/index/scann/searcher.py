"""Builds ScaNN searchers, and runs them eagerly or in the graph of a SavedModel."""

import weakref
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scann import scann_ops
from scann.scann_ops.py import scann_ops as scann_raw_ops

BRUTE_FORCE = "brute_force"
QUANTIZED = "quantized_brute_force"
HASHING = "hashing"
PARTITIONS = "partitions"
#: Kinds that score every vector, and therefore have no search depth.
EXHAUSTIVE = (BRUTE_FORCE, QUANTIZED)

# Sizes of the training samples. Larger samples improve neither hash codes nor partitions.
_HASHING_SAMPLE = 100_000
_PARTITIONS_SAMPLE = 250_000
_PARTITIONS_SAMPLE_PER_LEAF = 50
# Makes ScaNN use the value that the searcher was built with.
_AS_BUILT = -1
# ScaNN divides a batch among its threads in parts of this many queries.
_QUERIES_PER_THREAD = 256


@dataclass(frozen=True)
class Design:
    """The kind and the parameters of a searcher. ScaNN calls partitions "leaves".

    Attributes:
        kind: ``BRUTE_FORCE`` scores every vector, ``QUANTIZED`` scores every vector with 8 bits per
            dimension. ``HASHING`` scores all hash codes and rescores the best candidates with the
            original vectors. ``PARTITIONS`` does so within the partitions nearest to the query.
        leaves: the number of partitions; 0 without partitions.
        dimensions_per_block: the number of dimensions that share a 4-bit hash code; 0 without
            hashing.
        anisotropic_threshold: the threshold T of the anisotropic loss (Guo et al.) for training
            hash codes; 0 without hashing.
    """

    kind: str
    leaves: int = 0
    dimensions_per_block: int = 0
    anisotropic_threshold: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes that are not 0."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Depth:
    """A search depth.

    Attributes:
        k: the number of results.
        leaves_searched: how many of the partitions nearest to the query are searched; 0 without
            partitions.
        rescored: how many of the candidates with the best hash codes are scored again with the
            original vectors; 0 without hashing.
    """

    k: int
    leaves_searched: int
    rescored: int


class Searcher:
    """A ScaNN searcher in this process.

    Attributes:
        design: the kind and the parameters.
        size: the number of vectors, N.
    """

    def __init__(self, vectors: NDArray[np.float32], design: Design) -> None:
        """Build a searcher over ``vectors``, float32 [N, D]."""
        size = len(vectors)
        self.design, self.size = design, size
        builder = scann_ops.builder(vectors, min(100, size), "dot_product")
        if design.kind in EXHAUSTIVE:
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
        # TensorFlow frees the searcher's memory only if the resource is destroyed explicitly.
        weakref.finalize(
            self, tf.raw_ops.DestroyResourceOp, resource=self._searcher.searcher_handle
        ).atexit = False

    def state(self) -> tf.Module:
        """Return a module with the variables from which :func:`search_op` restores the searcher."""
        return self._searcher.serialize_to_module()

    def search(self, queries: NDArray[np.float32], depth: Depth) -> NDArray[np.int32]:
        """Return the ``depth.k`` best rows of each query: float32 [M, D] -> int32 [M, k].

        If fewer than k candidates are found, the remaining rows are -1.
        """
        rows, scores = scann_raw_ops.scann_search_batched(
            self._searcher.searcher_handle,
            queries,
            depth.k,
            depth.rescored or _AS_BUILT,
            depth.leaves_searched or _AS_BUILT,
            False,
        )
        best_rows: NDArray[np.int32] = tf.where(tf.math.is_nan(scores), -1, rows).numpy()
        return best_rows


def search_op(
    state: Any,
    shared_name: str,
    queries: tf.Tensor,
    k: tf.Tensor,
    leaves_and_rescored: tuple[tf.Tensor, tf.Tensor] | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Restore a searcher in a graph, and run a search.

    Args:
        state: the module from :meth:`Searcher.state`.
        shared_name: the name under which all graphs in a process find the same searcher.
        queries: float32 [B, D].
        k: int32 scalar, from 1 to N.
        leaves_and_rescored: the numbers of leaves to search and candidates to rescore, int32
            scalars; None for exhaustive kinds.

    Returns:
        Rows int32 [B, k] and scores float32 [B, k], best first. If fewer than k candidates are
        found, the remaining scores are NaN.
    """
    searcher = scann_raw_ops.tensors_to_scann(
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
    leaves, rescored = leaves_and_rescored or (_AS_BUILT, _AS_BUILT)
    parallel = tf.shape(queries)[0] > _QUERIES_PER_THREAD
    rows, scores = scann_raw_ops.scann_search_batched(
        searcher, queries, k, rescored, leaves, parallel
    )
    return rows, scores
