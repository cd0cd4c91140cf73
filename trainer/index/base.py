"""The interface of an index kind: a builder, and the index that it builds.

To add a kind, implement both classes in a new module, and name the kind in
:mod:`trainer.index.kinds` and in :class:`trainer.config.IndexConfig`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

#: Query vectors, float32 [M, D], by kind of query, such as "users" and "items".
Queries = Mapping[str, NDArray[np.float32]]
#: Receives progress messages for the user.
Notify = Callable[[str], object]


class Index(tf.Module, ABC):
    """N candidate vectors with D dimensions that a SavedModel can search.

    The methods ``vectors`` and ``search`` are traced into the signatures of a SavedModel, so ``k``
    and the batch size are known only when a request arrives. Both methods may use only TensorFlow
    2.11 ops and the ops in ``op_namespaces``.
    """

    #: Namespaces of the custom ops in the graph, for example "Scann" for an op "Scann>Search".
    op_namespaces: ClassVar[tuple[str, ...]] = ()

    #: Number of dimensions, D.
    dim: int

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Describe how the index was built and tuned, for manifest.json and metrics.json.

        Only the key ``kind`` is required. The report also shows ``reason``, which says why this
        index was chosen, and the operating points in the lists ``by_k``, ``tried`` and
        ``frontier``. An operating point must have the keys ``k``, ``items``, ``recall``,
        ``milliseconds`` and ``queries_per_second_of_32``. The report plots ``frontier`` together
        with ``target_recall`` and ``by_k``.
        """

    @abstractmethod
    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the candidate vectors in the given rows: int32 [B] -> float32 [B, D]."""

    @abstractmethod
    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the k best candidates of every query, best first.

        Args:
            queries: float32 [B, D].
            k: int32 scalar, at least 0; it may be larger than N.

        Returns:
            Rows int32 [B, k] and scores float32 [B, k]. The scores are dot products with the
            original vectors. If fewer than k candidates are found, the rest of a query's rows is
            -1, and the rest of the scores is -inf.
        """


class IndexBuilder(ABC):
    """Builds indexes of one kind."""

    @abstractmethod
    def build(
        self, vectors: NDArray[np.float32], queries: Queries, target_recall: float, notify: Notify
    ) -> Index:
        """Build an index, and tune it if it is approximate.

        Args:
            vectors: candidate vectors, float32 [N, D].
            queries: typical queries for tuning.
            target_recall: the mean recall@100, from 0 to 1, that the index must reach for each kind
                of query.
            notify: called with progress messages.

        Raises:
            IndexTuningError: no index of this kind reaches the target.
        """

    def bytes_to_build(self, items: int, dim: int) -> int:
        """Return the peak memory for building and saving an index of vectors [items, dim]."""
        return 3 * 4 * items * dim  # The given vectors, a variable, and a temporary copy.

    def bytes_to_serve(self, items: int, dim: int) -> int:
        """Return the memory that a model server needs for an index of vectors [items, dim]."""
        return 4 * items * dim


def pad_results(rows: tf.Tensor, scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pad rows and scores from [B, at most k] to [B, k]: rows with -1, scores with -inf."""
    padding = [[0, 0], [0, tf.maximum(k - tf.shape(rows)[1], 0)]]
    return (
        tf.pad(rows, padding, constant_values=-1),
        tf.pad(scores, padding, constant_values=float("-inf")),
    )
