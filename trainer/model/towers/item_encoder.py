"""Embeds items after training: new items by their features, known items with new features."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trainer.config import ModelConfig
from trainer.data.features import FeatureEncoder
from trainer.model.towers.candidate import CandidateTower
from trainer.model.towers.embedding import EntityEmbedding, EntityWeights, embed_all


@dataclass(frozen=True, eq=False)
class ItemTowers:
    """The weights and features that determine the embeddings of a catalogue of N items.

    Attributes:
        encoder: encodes columns of items as features.
        trained: bool [N], True for items with training rows.
        candidate: weights of the candidate tower.
        history: weights of the items of histories in the query tower; None without histories.
        config: the configuration of the towers.
    """

    encoder: FeatureEncoder
    trained: NDArray[np.bool_]
    candidate: EntityWeights
    history: EntityWeights | None
    config: ModelConfig

    def take(self, rows: NDArray[np.integer]) -> "ItemTowers":
        """Return the towers of the items at ``rows``, int [M]; -1 is a new item."""
        known = rows >= 0
        trained = np.zeros(len(rows), np.bool_)
        trained[known] = self.trained[rows[known]]
        history = None if self.history is None else _take(self.history, rows)
        return replace(
            self, trained=trained, candidate=_take(self.candidate, rows), history=history
        )

    def embed(
        self, features: sparse.csr_matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Embed all items with new features, by the layers that training uses.

        Args:
            features: float32 [N, F], as returned by ``encoder``.

        Returns:
            the embeddings as candidates and as items of histories, float32 [N, D] each; the latter
            is None if the query tower has no histories.
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


def _take(weights: EntityWeights, rows: NDArray[np.integer]) -> EntityWeights:
    ids = np.zeros((len(rows), weights.ids.shape[1]), np.float32)
    ids[rows >= 0] = weights.ids[rows[rows >= 0]]
    return replace(weights, ids=ids)
