"""How good candidates are on the test rows: exact, over the whole catalogue.

Two definitions, never to be mixed:

``all_items.top_k``
    The share of the test interactions whose item is among the k best of the whole
    catalogue, training items NOT removed: FactorizedTopK of TensorFlow Recommenders.
``unseen_items.top_k``
    The same with the user's training items removed from the ranking. A test
    interaction whose item is also a training item of its user counts as a miss.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions

TOP_KS = (1, 5, 10, 50, 100)

#: Scores of a batch of users over the catalogue: int32 [B] -> float32 [B, items].
Scorer = Callable[[NDArray[np.int32]], NDArray[np.float32]]

# Of the score matrix of a batch of users: 256 MB of float32.
_SCORES_AT_ONCE = 64_000_000


@dataclass(frozen=True)
class TopK:
    """The share of the test interactions found among the k best, for every k reported."""

    top_1: float
    top_5: float
    top_10: float
    top_50: float
    top_100: float


@dataclass(frozen=True)
class Quality:
    """Both definitions for one model on one split."""

    all_items: TopK
    unseen_items: TopK

    def as_dict(self) -> dict[str, dict[str, float]]:
        """``{"all_items": {"top_1": ...}, "unseen_items": {...}}``, as in metrics.json."""
        return asdict(self)


def evaluate(scorer: Scorer, train: Interactions, test: Interactions) -> Quality:
    """Rank the catalogue for every test interaction.

    Of equal scores the item that comes first in the catalogue ranks higher, as in
    ``tf.math.top_k`` and so in what is served. A NaN ranks last.

    Raises:
        ValueError: there are no test rows.
    """
    if len(test) == 0:
        raise ValueError("there are no test rows")
    seen_by, seen = _rows_by_user(train)
    asked_by, asked = _rows_by_user(test)
    users = np.unique(test.users)
    ranks: list[NDArray[np.int64]] = []
    unseen_ranks: list[NDArray[np.int64]] = []
    items = scorer(users[:1]).shape[1]
    users_at_once = max(1, _SCORES_AT_ONCE // items)
    for start in range(0, len(users), users_at_once):
        batch = users[start : start + users_at_once]
        scores = scorer(batch).astype(np.float32, copy=True)
        row, item = _pairs(batch, asked_by, asked)
        ranks.append(_ranks(scores)[row, item])
        scores[_pairs(batch, seen_by, seen)] = -np.inf
        # An item that was itself removed is never found, however short the catalogue.
        removed = np.isneginf(scores[row, item])
        unseen_ranks.append(np.where(removed, items + TOP_KS[-1], _ranks(scores)[row, item]))
    return Quality(_top_k(np.concatenate(ranks)), _top_k(np.concatenate(unseen_ranks)))


def dot_product_scorer(
    query_vectors: NDArray[np.float32],
    candidate_vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    popularity: NDArray[np.float32],
) -> Scorer:
    """What is served: dot products for known users, popularity for the others.

    Args:
        query_vectors: float32 [users, D].
        candidate_vectors: float32 [items, D].
        known: bool [users].
        popularity: float32 [items].
    """

    def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = query_vectors[users] @ candidate_vectors.T
        return np.where(known[users, None], scores, popularity)

    return score


def popularity_scorer(popularity: NDArray[np.float32]) -> Scorer:
    """The same scores, float32 [items], for every user."""
    return lambda users: np.broadcast_to(popularity, (len(users), len(popularity)))


def _ranks(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rank of every item, from 0: [B, items] -> [B, items]."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(scores.shape[1])[None, :], axis=1)
    return ranks


def _rows_by_user(rows: Interactions) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Users in ascending order, and the items beside them."""
    order = np.argsort(rows.users, kind="stable")
    return rows.users[order], rows.items[order]


def _pairs(
    batch: NDArray[np.int32], users: NDArray[np.int32], items: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Positions in ``batch`` and items of all the rows of the users in ``batch``, ascending."""
    first, last = np.searchsorted(users, [batch[0], batch[-1] + 1])
    users, items = users[first:last], items[first:last]
    position = np.searchsorted(batch, users)
    inside = batch[position] == users
    return position[inside], items[inside]


def _top_k(ranks: NDArray[np.int64]) -> TopK:
    return TopK(**{f"top_{k}": float(np.mean(ranks < k)) for k in TOP_KS})
