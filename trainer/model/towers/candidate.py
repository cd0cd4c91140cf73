"""The candidate tower, which embeds items."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import sparse

from trainer.config import ModelConfig
from trainer.model.towers.embedding import EntityEmbedding, EntityWeights, unit_length


class CandidateTower(tf.keras.Model):
    """Adds an item's id embedding and feature embeddings, and normalizes if so configured.

    An item without training rows has features only, and its embedding is scaled down.
    """

    def __init__(
        self,
        features: sparse.csr_matrix,
        trained: NDArray[np.bool_],
        config: ModelConfig,
        *,
        seed: int,
        name: str = "candidate_tower",
    ) -> None:
        """Create the tower of N items.

        Args:
            features: float32 [N, F].
            trained: bool [N], True for items with training rows.
            config: the configuration of the towers.
            seed: seed of the initial weights.
            name: the name of the Keras model.
        """
        super().__init__(name=name)
        self._embedding = EntityEmbedding(
            config.embedding_dim,
            features,
            trained,
            seed=seed,
            # Without features nothing would represent an item whose id is dropped.
            id_dropout=config.item_id_dropout if features.shape[1] else 0.0,
            name="items",
        )
        self._normalize = config.normalize
        # Features alone may overrate items that nobody has seen.
        self._scale = tf.constant(np.where(trained, 1.0, config.new_item_scale), tf.float32)

    def call(self, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return embeddings of items: int32 [B] -> float32 [B, D]."""
        vectors = self._embedding(items, training=training)
        if self._normalize:
            vectors = unit_length(vectors)
        return vectors * tf.gather(self._scale, items)[:, None]

    def trained_weights(self) -> EntityWeights:
        """Return the learnt weights."""
        return self._embedding.trained_weights()

    def assign(self, weights: EntityWeights) -> None:
        """Replace the weights by those of another tower of the same N items."""
        self._embedding.assign(weights)
