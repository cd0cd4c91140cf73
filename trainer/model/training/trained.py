"""What training leaves."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainer.config import Config
from trainer.data.features import FeatureEncoder
from trainer.data.histories import Histories
from trainer.evaluation import Scorer, dot_product_scorer
from trainer.model.towers.item_encoder import ItemTowers
from trainer.model.towers.query import QueryWeights


@dataclass(frozen=True)
class LearningCurve:
    """How training went, by epoch.

    Attributes:
        loss: of the last step of each epoch.
        validation: ``unseen_items`` top-100 on the validation rows; empty without these.
    """

    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """From 1; the last one where there was no validation."""
        return int(np.argmax(self.validation)) + 1 if self.validation else len(self.loss)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What training leaves: the towers as arrays, and how it went.

    Attributes:
        query: the query tower.
        candidate_vectors: float32 [items, D].
        histories: of all users, what the queries of known users are made of.
        known_users: bool [users], who has training rows.
        items: what the vectors of items are made of, for those that come later.
        user_features: how columns of users were read.
        config: of the run, with nothing left open.
        curve: by epoch.
        seconds: of wall time, the second training included.
        interactions_per_second: targets that were scored against the candidates.
    """

    query: QueryWeights
    candidate_vectors: NDArray[np.float32]
    histories: Histories
    known_users: NDArray[np.bool_]
    items: ItemTowers
    user_features: FeatureEncoder
    config: Config
    curve: LearningCurve
    seconds: float
    interactions_per_second: float

    def query_vectors(self) -> NDArray[np.float32]:
        """Of all users, float32 [users, D]."""
        return self.query.embed(self.histories, np.arange(len(self.known_users)))

    def scorer(self, popularity: NDArray[np.float32]) -> Scorer:
        """What is served, ``popularity`` float32 [items] standing in for unknown users."""
        return dot_product_scorer(
            self.query_vectors(), self.candidate_vectors, self.known_users, popularity
        )
