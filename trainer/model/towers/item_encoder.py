"""Embeds items after training: new ones by their features, known ones with new features."""

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
    """All that decides what the vectors of a catalogue of N items are.

    Attributes:
        encoder: how columns of items are read.
        trained: bool [N], which items have training rows.
        candidate: of the candidate tower.
        history: of the items of histories in the query tower; None where it has none.
        config: of the towers.
    """

    encoder: FeatureEncoder
    trained: NDArray[np.bool_]
    candidate: EntityWeights
    history: EntityWeights | None
    config: ModelConfig

    def take(self, rows: NDArray[np.integer]) -> "ItemTowers":
        """Of some of the items, int [M], in that order; -1 is an item without training rows."""
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
        """The vectors that training would have left of these items, had they these features.

        By the layers that training uses.

        Args:
            features: float32 [N, F], as ``encoder`` reads them.

        Returns:
            as candidates and as items of histories, float32 [N, D] each; the latter None where
            the query tower has none.
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
