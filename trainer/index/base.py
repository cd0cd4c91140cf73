"""What both index kinds do: find the k vectors with the highest dot product."""

from abc import ABC, abstractmethod
from typing import Any

import tensorflow as tf


class Index(tf.Module, ABC):
    """N candidate vectors of D dimensions inside a SavedModel.

    Every method is called while a signature is traced; ``k`` and the batch size
    are known only when a request comes.
    """

    #: D.
    dim: int

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """What the index was built with, for the manifest."""

    @abstractmethod
    def vectors(self, rows: tf.Tensor) -> tf.Tensor:
        """Candidate vectors: int32 [B] -> float32 [B, D]."""

    @abstractmethod
    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k best candidates of every query, best first.

        Args:
            queries: float32 [B, D].
            k: int32 scalar, at least 0, possibly more than N.

        Returns:
            rows int32 [B, k], -1 where there are no more candidates, and scores
            float32 [B, k], -inf there.
        """


def widen(rows: tf.Tensor, scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Fill rows and scores [B, at most k] up to [B, k] with -1 and -inf."""
    padding = [[0, 0], [0, tf.maximum(k - tf.shape(rows)[1], 0)]]
    return (
        tf.pad(rows, padding, constant_values=-1),
        tf.pad(scores, padding, constant_values=float("-inf")),
    )
