"""The result of training: the towers as arrays, and a record of the training."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainer.config import Config
from trainer.data.histories import Histories
from trainer.evaluation import Scorer, dot_product_scorer
from trainer.model.towers.candidate import ItemTowers
from trainer.model.towers.query import QueryWeights


@dataclass(frozen=True)
class LearningCurve:
    """The loss and the validation metric of every epoch.

    Attributes:
        loss: the loss that Keras reports for each epoch: the loss of the epoch's last step.
        validation: unseen_items.top_100 on the validation rows; empty without validation.
    """

    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The best epoch, counted from 1. Without validation, it is the last epoch."""
        return int(np.argmax(self.validation)) + 1 if self.validation else len(self.loss)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The trained towers as arrays, and a record of the training.

    Attributes:
        query: the weights of the query tower.
        candidate_vectors: float32 [items, D], the candidate embeddings.
        histories: the histories of all users, from which queries are computed.
        known_users: bool [users], True for users whose query is based on training rows.
        items: the weights that embed items added or changed later.
        config: the configuration of the run, with all automatic choices made.
        curve: the loss and the validation metric of every epoch.
        seconds: the duration of training, including the second training on all rows.
        interactions_per_second: the number of targets per second in the last training.
    """

    query: QueryWeights
    candidate_vectors: NDArray[np.float32]
    histories: Histories
    known_users: NDArray[np.bool_]
    items: ItemTowers
    config: Config
    curve: LearningCurve
    seconds: float
    interactions_per_second: float

    def query_vectors(self) -> NDArray[np.float32]:
        """Return the query embeddings of all users, float32 [users, D]."""
        return self.query.embed(self.histories, np.arange(len(self.known_users)))

    def scorer(self, popularity: NDArray[np.float32]) -> Scorer:
        """Return a scorer that ranks as the exported models do; see :func:`dot_product_scorer`."""
        return dot_product_scorer(
            self.query_vectors(), self.candidate_vectors, self.known_users, popularity
        )
