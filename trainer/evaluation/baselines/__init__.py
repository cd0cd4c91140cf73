"""Baselines: models that a trained one has to beat.

Their default hyperparameters were chosen on MovieLens 100K. A tenth of the training rows of the
random split with seed 42 was held out for validation, three times (random, seeds 1, 2 and 3), and
the values with the highest mean unseen_items.top_100 were taken. The docstring of each baseline
lists the values that were tried.

ease        EASE
ials        iALS
neighbours  item-kNN
matrix      interactions as a sparse matrix
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions
from trainer.evaluation import Scorer, popularity_scorer
from trainer.evaluation.baselines.ease import ease
from trainer.evaluation.baselines.ials import ials, unavailable
from trainer.evaluation.baselines.neighbours import item_knn

__all__ = ["Baselines", "choose", "ease", "ials", "item_knn", "popularity"]

#: Item-kNN and EASE hold a number for every pair of items, which is 2 GB at this limit.
_MAX_ITEMS_SQUARED = 20_000
#: Above this limit iALS takes longer than an evaluation should.
_MAX_ROWS_FACTORIZED = 5_000_000


@dataclass(frozen=True)
class Baselines:
    """The baselines to compare with.

    Attributes:
        builders: by name, a function that builds the scorer when it is called.
        left_out: by name, the reason why a baseline is left out.
    """

    builders: dict[str, Callable[[], Scorer]]
    left_out: dict[str, str]


def choose(train: Interactions, users: int, items: int, seed: int) -> Baselines:
    """Return all baselines that are feasible for a data set of this size.

    Args:
        train: the training rows.
        users: number of users.
        items: number of items in the catalogue.
        seed: seed of the initial factors of iALS; the other baselines are deterministic.
    """
    every: dict[str, Callable[[], Scorer]] = {
        "popularity": lambda: popularity_scorer(popularity(train, items)),
        "item-kNN": lambda: item_knn(train, users, items),
        "EASE": lambda: ease(train, users, items),
        "iALS": lambda: ials(train, users, items, seed=seed),
    }
    left_out: dict[str, str] = {}
    if items > _MAX_ITEMS_SQUARED:
        reason = f"left out above {_MAX_ITEMS_SQUARED:,} items, because it compares all pairs"
        left_out |= {"item-kNN": reason, "EASE": reason}
    if len(train) > _MAX_ROWS_FACTORIZED:
        left_out["iALS"] = (
            f"left out above {_MAX_ROWS_FACTORIZED:,} training rows, because it is slow"
        )
    elif reason := unavailable():
        left_out["iALS"] = f"left out, because its library cannot be loaded: {reason}"
    builders = {name: build for name, build in every.items() if name not in left_out}
    return Baselines(builders, left_out)


def popularity(rows: Interactions, items: int) -> NDArray[np.float32]:
    """Return the number of interactions of every item, float32 [items]."""
    return np.bincount(rows.items, minlength=items).astype(np.float32)
