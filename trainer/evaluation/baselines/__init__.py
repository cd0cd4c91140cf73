"""Models that a trained one must beat.

Their hyper-parameters are defaults that were chosen on MovieLens 100K: of the training
rows of the random split with seed 42 a tenth was held out for validation, three times (random,
seeds 1, 2, 3), and the highest mean of unseen_items.top_100 there decided. The functions
say what was tried.
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

#: Item-kNN and EASE hold a number for every pair of items: 2 GB for this many.
_MOST_ITEMS_SQUARED = 20_000
#: Above, iALS takes longer than an evaluation should.
_MOST_ROWS_FACTORIZED = 5_000_000


@dataclass(frozen=True)
class Baselines:
    """What to compare with.

    Attributes:
        builders: by name, makes the scorer; nothing is computed before it is called.
        left_out: by name, why there is none.
    """

    builders: dict[str, Callable[[], Scorer]]
    left_out: dict[str, str]


def choose(train: Interactions, users: int, items: int, seed: int) -> Baselines:
    """All baselines that a data set of this size allows, with their default parameters.

    Args:
        train: the training rows.
        users: number of users.
        items: number of items in the catalogue.
        seed: of iALS' initial factors; the others have no chance in them.
    """
    every: dict[str, Callable[[], Scorer]] = {
        "popularity": lambda: popularity_scorer(popularity(train, items)),
        "item-kNN": lambda: item_knn(train, users, items),
        "EASE": lambda: ease(train, users, items),
        "iALS": lambda: ials(train, users, items, seed=seed),
    }
    left_out: dict[str, str] = {}
    if items > _MOST_ITEMS_SQUARED:
        reason = f"left out above {_MOST_ITEMS_SQUARED:,} items: it compares every pair of them"
        left_out |= {"item-kNN": reason, "EASE": reason}
    if len(train) > _MOST_ROWS_FACTORIZED:
        left_out["iALS"] = f"left out above {_MOST_ROWS_FACTORIZED:,} training rows: it is slow"
    elif not_here := unavailable():
        left_out["iALS"] = f"left out: its library cannot be loaded: {not_here}"
    builders = {name: build for name, build in every.items() if name not in left_out}
    return Baselines(builders, left_out)


def popularity(rows: Interactions, items: int) -> NDArray[np.float32]:
    """The number of interactions of every item, float32 [items]: the same for every user."""
    return np.bincount(rows.items, minlength=items).astype(np.float32)
