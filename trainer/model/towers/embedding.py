"""Ids and features of entities (users or items) as one vector each."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import sparse


@dataclass(frozen=True, eq=False)
class EntityWeights:
    """What an :class:`EntityEmbedding` of N entities with F features has learnt.

    Attributes:
        ids: float32 [N, D], own vectors; zeros for entities without training rows.
        features: float32 [F, D].
    """

    ids: NDArray[np.float32]
    features: NDArray[np.float32]


class EntityEmbedding(tf.keras.layers.Layer):
    """The sum of an id's own vector and the vectors of its features.

    An entity without training rows has no vector of its own: it is what its features are.
    """

    def __init__(
        self,
        dim: int,
        features: sparse.csr_matrix,
        trained: NDArray[np.bool_],
        *,
        seed: int,
        id_dropout: float = 0.0,
        name: str,
    ) -> None:
        """Set up N entities.

        Args:
            dim: D, the length of the vectors.
            features: float32 [N, F]; F may be 0.
            trained: bool [N], who has training rows.
            seed: of the initial vectors.
            id_dropout: share of the entities whose own vector is left out of a training step,
                so that the rest of what is known learns to stand for them (Volkovs et al.,
                "DropoutNet", NIPS 2017).
            name: of the layer.
        """
        super().__init__(name=name)
        self._dim = dim
        self._ids = tf.keras.layers.Embedding(
            len(trained),
            dim,
            embeddings_initializer=tf.keras.initializers.RandomUniform(-0.05, 0.05, seed=seed),
        )
        self._trained = tf.constant(trained, tf.float32)
        self._has_features = features.shape[1] > 0
        self._id_dropout = id_dropout
        if self._has_features:
            # All zero: features that never had a training row say nothing.
            self._feature_vectors = self.add_weight("features", (features.shape[1], dim))
            self._feature_vectors.assign(tf.zeros_like(self._feature_vectors))
            self._offsets = tf.constant(features.indptr, tf.int32)
            self._features = tf.constant(features.indices, tf.int32)
            self._weights = tf.constant(features.data, tf.float32)

    def call(self, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Vectors of entities: int32 [B] -> float32 [B, D]."""
        own = tf.gather(self._trained, rows)
        if training and self._id_dropout:
            own *= tf.cast(tf.random.uniform(tf.shape(own)) >= self._id_dropout, tf.float32)
        vectors = self._ids(rows) * own[:, None]
        return vectors + self._of_features(rows) if self._has_features else vectors

    def trained_weights(self) -> EntityWeights:
        """What was learnt."""
        features = np.zeros((0, self._dim), np.float32)
        if self._has_features:
            features = self._feature_vectors.numpy()
        return EntityWeights(
            ids=self._ids_table().numpy() * self._trained.numpy()[:, None], features=features
        )

    def assign(self, weights: EntityWeights) -> None:
        """Be what another one with the same F and D, and these N entities, has learnt."""
        self._ids_table().assign(weights.ids)
        if self._has_features:
            self._feature_vectors.assign(weights.features)

    def _ids_table(self) -> tf.Variable:
        if not self._ids.built:
            self._ids.build(None)
        return self._ids.embeddings

    def _of_features(self, rows: tf.Tensor) -> tf.Tensor:
        place = tf.ragged.range(tf.gather(self._offsets, rows), tf.gather(self._offsets, rows + 1))
        weights = tf.gather(self._weights, place.values)
        vectors = tf.gather(self._feature_vectors, tf.gather(self._features, place.values))
        return tf.math.unsorted_segment_sum(
            vectors * weights[:, None], place.value_rowids(), place.nrows()
        )


def unit_length(vectors: tf.Tensor) -> tf.Tensor:
    """Scaled to length 1, zeros left as they are: float32 [B, D] -> float32 [B, D].

    For training. At zero, where features start, the gradient of ``tf.math.l2_normalize`` is a
    million times what it is elsewhere, and Adam, which divides by the size of the gradients it
    has met, then moves these weights no more.
    """
    squares = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    return vectors * tf.math.rsqrt(tf.where(squares > 1e-12, squares, 1.0))


def embed_all(layer: tf.keras.layers.Layer, count: int) -> NDArray[np.float32]:
    """The vectors of all entities, float32 [count, D], in bounded batches."""
    starts = range(0, count, 65_536)
    batches = [layer(tf.range(start, min(start + 65_536, count))).numpy() for start in starts]
    return np.concatenate(batches) if batches else np.zeros((0, 0), np.float32)
