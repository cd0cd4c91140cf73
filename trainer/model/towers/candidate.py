"""The candidate tower: an item in, a vector out."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import sparse

from trainer.config import ModelConfig
from trainer.model.towers.embedding import EntityEmbedding, EntityWeights, unit_length


class CandidateTower(tf.keras.Model):
    """An item's own vector and its features'; of length 1 where so configured.

    An item without training rows is known by its features alone, and its vector is shorter.
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
        """Set up N items: ``features`` float32 [N, F], ``trained`` bool [N]."""
        super().__init__(name=name)
        self._embedding = EntityEmbedding(
            config.embedding_dim,
            features,
            trained,
            seed=seed,
            # Without features there is nothing else to stand for an item.
            id_dropout=config.item_id_dropout if features.shape[1] else 0.0,
            name="items",
        )
        self._normalize = config.normalize
        # Nobody has met these: their features may promise more than they hold.
        self._scale = tf.constant(np.where(trained, 1.0, config.new_item_scale), tf.float32)

    def call(self, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Vectors of items: int32 [B] -> float32 [B, D]."""
        vectors = self._embedding(items, training=training)
        if self._normalize:
            vectors = unit_length(vectors)
        return vectors * tf.gather(self._scale, items)[:, None]

    def trained_weights(self) -> EntityWeights:
        """What was learnt."""
        return self._embedding.trained_weights()

    def assign(self, weights: EntityWeights) -> None:
        """Be the tower that has learnt these, of the same N items."""
        self._embedding.assign(weights)
