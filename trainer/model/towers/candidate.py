"""The candidate tower, which embeds items, including those added or changed after training."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import sparse

from trainer.config import ModelConfig
from trainer.data.features import FeatureEncoder
from trainer.model.towers.embedding import EntityEmbedding, EntityWeights, embed_all, unit_length

Array = TypeVar("Array", bound=NDArray[np.generic])


class CandidateTower(tf.keras.Model):
    """The trainable candidate tower of N items.

    An item's embedding is the sum of its id embedding and its feature embeddings, scaled to length
    1 if so configured. Only features represent an item without training rows, and its
    embedding is scaled down.
    """

    def __init__(
        self,
        features: sparse.csr_matrix,
        trained: NDArray[np.bool_],
        config: ModelConfig,
        *,
        seed: int,
    ) -> None:
        """Create the tower.

        Args:
            features: float32 [N, F]; F may be 0.
            trained: bool [N], True for items with training rows.
            config: the tower settings.
            seed: seeds the initial weights.
        """
        super().__init__(name="candidate_tower")
        self._embedding = EntityEmbedding(
            config.embedding_dim,
            features,
            trained,
            seed=seed,
            # Without features, nothing would represent an item whose id is dropped.
            id_dropout=config.item_id_dropout if features.shape[1] else 0.0,
            name="items",
        )
        self._normalize = config.normalize
        # Features alone may give items without training rows scores that are too high.
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
        """Replace the weights with those of another tower for the same N items."""
        self._embedding.assign(weights)


@dataclass(frozen=True, eq=False)
class ItemTowers:
    """The weights and features that determine the embeddings of a catalogue of N items.

    Attributes:
        encoder: encodes item columns as features.
        trained: bool [N], True for items with training rows.
        candidate: the weights of the candidate tower.
        history: the weights that embed history items in the query tower; None without histories.
        config: the tower settings.
    """

    encoder: FeatureEncoder
    trained: NDArray[np.bool_]
    candidate: EntityWeights
    history: EntityWeights | None
    config: ModelConfig

    def take(self, rows: NDArray[np.integer]) -> "ItemTowers":
        """Return the towers for the M items at ``rows``, int [M], where -1 is a new item."""
        candidate = replace(self.candidate, ids=take_rows(self.candidate.ids, rows))
        history = self.history and replace(self.history, ids=take_rows(self.history.ids, rows))
        return replace(
            self, trained=take_rows(self.trained, rows), candidate=candidate, history=history
        )

    def embed(
        self, features: sparse.csr_matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Embed all items, given their current features, with the layers used in training.

        Args:
            features: float32 [N, F], as returned by ``encoder``.

        Returns:
            The candidate embeddings and the history-item embeddings, as two float32 [N, D] arrays.
            The second is None if the query tower uses no histories.
        """
        tower = CandidateTower(features, self.trained, self.config, seed=0)
        tower.assign(self.candidate)
        candidates = embed_all(tower, len(self.trained))
        if self.history is None:
            return candidates, None
        items = EntityEmbedding(
            self.config.embedding_dim, features, self.trained, seed=0, name="history_items"
        )
        items.assign(self.history)
        return candidates, embed_all(items, len(self.trained))


def take_rows(values: Array, rows: NDArray[np.integer]) -> Array:
    """Return a copy of the given rows of an array, with zeros for row -1."""
    taken: Array = np.zeros((len(rows), *values.shape[1:]), values.dtype)  # type: ignore[assignment]
    taken[rows >= 0] = values[rows[rows >= 0]]
    return taken
