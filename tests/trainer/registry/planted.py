"""A planted data set: models whose quality on the test rows is chosen beforehand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.artifact.servable import Servable
from trainer.data import split, synthetic
from trainer.data.histories import Histories
from trainer.data.types import Dataset
from trainer.model.towers import query as query_tower
from trainer.model.towers.query import QueryWeights
from trainer.registry.quality_gate import HeldOutRows

USERS, ITEMS = 60, 300


def held_out(dataset: Dataset, seed: int = 42) -> HeldOutRows:
    return HeldOutRows(dataset, split.split(dataset.interactions, "random", 0.2, seed))


def held_out_rows() -> HeldOutRows:
    return held_out(synthetic.load(users=USERS, items=ITEMS, interactions=3000))


@dataclass(frozen=True, eq=False)
class Planted:
    """A model that ranks a share of the test rows first, and the rest of the items by chance."""

    rows: HeldOutRows
    share: float

    def scores(self) -> NDArray[np.float32]:
        """The score of every item for every user, float32 [USERS, ITEMS]."""
        random = np.random.default_rng(1)
        scores = random.random((USERS, ITEMS)).astype(np.float32)
        test = self.rows.parts.test
        first = random.random(len(test)) < self.share
        scores[test.users[first], test.items[first]] += 2
        return scores

    def servable(self) -> Servable:
        """Items are unit vectors, so a user's vector holds the scores of all items."""
        dataset, train = self.rows.dataset, self.rows.parts.train
        return Servable(
            query=QueryWeights(
                base=np.zeros(ITEMS, np.float32),
                item_vectors=None,
                item_log_weights=np.zeros(ITEMS, np.float32),
                age_log_weights=np.zeros(query_tower.AGE_BUCKETS, np.float32),
                exponent=0.0,
                history_length=5,
                user_vectors=self.scores(),
                normalize=False,
            ),
            user_ids=dataset.user_ids,
            histories=Histories(np.zeros(USERS + 1, np.int64), np.zeros(0, np.int32)),
            candidate_vectors=np.eye(ITEMS, dtype=np.float32),
            item_ids=dataset.item_ids,
            popularity=np.bincount(train.items, minlength=ITEMS).astype(np.float32),
        )
