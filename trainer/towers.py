"""The two towers: an id in, a vector out."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

# No id is empty, so this name for "not in the vocabulary" is nobody's.
_OUT_OF_VOCABULARY = ""


class IdTower(tf.keras.Model):
    """StringLookup and Embedding: the towers of the basic retrieval tutorial.

    Row 0 of the embedding stands for all ids outside the vocabulary.
    """

    def __init__(
        self, ids: NDArray[np.object_], embedding_dim: int, *, normalize: bool, seed: int, name: str
    ) -> None:
        """A tower for ``ids``, str objects [N], distinct."""
        super().__init__(name=name)
        self._lookup = tf.keras.layers.StringLookup(
            vocabulary=list(ids), mask_token=None, oov_token=_OUT_OF_VOCABULARY
        )
        self._embedding = tf.keras.layers.Embedding(
            len(ids) + 1,
            embedding_dim,
            embeddings_initializer=tf.keras.initializers.RandomUniform(-0.05, 0.05, seed=seed),
        )
        self._normalize = normalize

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Vectors of ids: string [B] -> float32 [B, embedding_dim]."""
        vectors = self._embedding(self._lookup(ids))
        return tf.math.l2_normalize(vectors, axis=-1) if self._normalize else vectors

    def known(self, ids: tf.Tensor) -> tf.Tensor:
        """Whether each id is in the vocabulary: string [B] -> bool [B]."""
        return self._lookup(ids) > 0


def embed(tower: tf.keras.Model, ids: NDArray[np.object_]) -> NDArray[np.float32]:
    """The tower's vectors of ``ids``: str objects [N] -> float32 [N, D], in bounded batches."""
    if len(ids) == 0:
        return np.zeros((0, 0), np.float32)
    batches = (ids[start : start + 65_536] for start in range(0, len(ids), 65_536))
    return np.concatenate([tower(tf.constant(list(batch))).numpy() for batch in batches])
