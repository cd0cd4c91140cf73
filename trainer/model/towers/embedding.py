"""Embeds entities (users or items) by id and features."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import sparse


@dataclass(frozen=True, eq=False)
class EntityWeights:
    """The learnt weights of an :class:`EntityEmbedding` of N entities with F features.

    Attributes:
        ids: float32 [N, D], id embeddings; zeros for entities without training rows.
        features: float32 [F, D], feature embeddings.
    """

    ids: NDArray[np.float32]
    features: NDArray[np.float32]


class EntityEmbedding(tf.keras.layers.Layer):
    """The sum of an entity's id embedding and the embeddings of its features.

    An entity without training rows has no id embedding; its features alone represent it.
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
        """Create the layer for N entities.

        Args:
            dim: D, the number of dimensions.
            features: float32 [N, F]; F may be 0.
            trained: bool [N], True for entities with training rows.
            seed: seeds the initial id embeddings.
            id_dropout: the share of the entities whose id embedding is left out of a training step,
                so that their features learn to represent them (Volkovs et al., "DropoutNet",
                NIPS 2017).
            name: the name of the layer.
        """
        super().__init__(name=name)
        self._id_vectors = self.add_weight(
            "ids",
            (len(trained), dim),
            initializer=tf.keras.initializers.RandomUniform(-0.05, 0.05, seed=seed),
        )
        self._has_features = features.shape[1] > 0
        # Start at zero, so that a feature without training rows has no effect.
        self._feature_vectors = self.add_weight(
            "features", (features.shape[1], dim), initializer="zeros", trainable=self._has_features
        )
        self._trained = tf.constant(trained, tf.float32)
        self._id_dropout = id_dropout
        # The features as compressed sparse rows.
        self._offsets = tf.constant(features.indptr, tf.int32)
        self._features = tf.constant(features.indices, tf.int32)
        self._values = tf.constant(features.data, tf.float32)

    def call(self, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return embeddings of entities: int32 [B] -> float32 [B, D]."""
        has_id = tf.gather(self._trained, rows)
        if training and self._id_dropout:
            has_id *= tf.cast(tf.random.uniform(tf.shape(has_id)) >= self._id_dropout, tf.float32)
        vectors = tf.gather(self._id_vectors, rows) * has_id[:, None]
        return vectors + self._embed_features(rows) if self._has_features else vectors

    def trained_weights(self) -> EntityWeights:
        """Return the learnt weights."""
        ids = self._id_vectors.numpy() * self._trained.numpy()[:, None]
        return EntityWeights(ids, self._feature_vectors.numpy())

    def assign(self, weights: EntityWeights) -> None:
        """Replace the weights with those of another layer with the same N, F and D."""
        self._id_vectors.assign(weights.ids)
        self._feature_vectors.assign(weights.features)

    def _embed_features(self, rows: tf.Tensor) -> tf.Tensor:
        entries = tf.ragged.range(
            tf.gather(self._offsets, rows), tf.gather(self._offsets, rows + 1)
        )
        values = tf.gather(self._values, entries.values)
        vectors = tf.gather(self._feature_vectors, tf.gather(self._features, entries.values))
        return tf.math.unsorted_segment_sum(
            vectors * values[:, None], entries.value_rowids(), entries.nrows()
        )


def unit_length(vectors: tf.Tensor) -> tf.Tensor:
    """Scale vectors to length 1, except for zeros: float32 [B, D] -> float32 [B, D].

    Training cannot use ``tf.math.l2_normalize``, because its gradient at zero is a million times
    larger than elsewhere, and feature embeddings start at zero. Adam divides by the size of past
    gradients, so it would hardly change such weights again.
    """
    squares = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    return vectors * tf.math.rsqrt(tf.where(squares > 1e-12, squares, 1.0))


def embed_all(layer: tf.keras.layers.Layer, count: int) -> NDArray[np.float32]:
    """Return the embeddings of all entities, float32 [count, D], computed in batches."""
    starts = range(0, count, 65_536)
    batches = [layer(tf.range(start, min(start + 65_536, count))).numpy() for start in starts]
    return np.concatenate(batches) if batches else np.zeros((0, 0), np.float32)
