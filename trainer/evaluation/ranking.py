"""Scorers, and the ranks of test items when the catalogue is sorted by a scorer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions

#: Returns the scores of all items for a batch of users: int32 [B] -> float32 [B, items].
Scorer = Callable[[NDArray[np.int32]], NDArray[np.float32]]

#: Number of best items in a ranking; no metric needs more.
DEPTH = 100

# Size of the score matrix of a batch of users: 128 MB of float32.
_MAX_SCORES = 32_000_000


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks, counted from 0, from which every metric is computed.

    A rank of ``DEPTH`` means that the item is not among the ``DEPTH`` best.

    Attributes:
        all_items: int64 [test rows], the rank of each row's item in its user's ranking of the whole
            catalogue.
        unseen_items: the same with the user's training items removed from the ranking. The rank of
            a removed item is ``DEPTH``.
        best_rank: int64 [items], the best rank of each item for any user with test rows, with
            training items removed.
    """

    all_items: NDArray[np.int64]
    unseen_items: NDArray[np.int64]
    best_rank: NDArray[np.int64]


def rank(scorer: Scorer, train: Interactions, test: Interactions) -> Ranking:
    """Rank the catalogue for every user with test rows.

    Among equal scores the item that comes first in the catalogue ranks higher, as in
    ``tf.math.top_k``, which the exported models use. An item with a score of NaN or -inf is not
    ranked.

    Raises:
        ValueError: there are no test rows.
    """
    if len(test) == 0:
        raise ValueError("there are no test rows")
    train_order, test_order = (np.argsort(rows.users, kind="stable") for rows in (train, test))
    train_rows, test_rows = train.take(train_order), test.take(test_order)
    users = np.unique(test_rows.users)
    items = scorer(users[:1]).shape[1]
    best_rank = np.full(items, DEPTH)
    ranks: list[NDArray[np.int64]] = []
    unseen_ranks: list[NDArray[np.int64]] = []
    users_at_once = max(1, _MAX_SCORES // items)
    for start in range(0, len(users), users_at_once):
        batch = users[start : start + users_at_once]
        scores = scorer(batch).astype(np.float32, copy=True)
        row, item = _pairs(batch, test_rows)
        ranks.append(_ranks(_best(scores), row, item))
        scores[_pairs(batch, train_rows)] = -np.inf
        best = _best(scores)
        unseen_ranks.append(_ranks(best, row, item))
        _, rank_of_best = np.nonzero(best >= 0)
        np.minimum.at(best_rank, best[best >= 0], rank_of_best)
    original = np.argsort(test_order)
    return Ranking(
        np.concatenate(ranks)[original], np.concatenate(unseen_ranks)[original], best_rank
    )


def dot_product_scorer(
    query_vectors: NDArray[np.float32],
    candidate_vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    popularity: NDArray[np.float32],
) -> Scorer:
    """Return a scorer that ranks as the exported models do.

    Scores are dot products, [users, D] and [items, D], for ``known`` users, bool [users], and
    popularity, [items], for all others. An item whose vector is zero is never recommended: its
    score is -inf.
    """
    retrievable = candidate_vectors.any(axis=1)

    def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = query_vectors[users] @ candidate_vectors.T
        scores = np.where(known[users, None], scores, popularity)
        return np.where(retrievable, scores, np.float32(-np.inf))

    return score


def popularity_scorer(popularity: NDArray[np.float32]) -> Scorer:
    """Return a scorer that gives every user the same scores, float32 [items]."""
    return lambda users: np.broadcast_to(popularity, (len(users), len(popularity)))


def _best(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the ``DEPTH`` best items, best first: [B, items] -> [B, at most DEPTH].

    Items with a score of NaN or -inf are replaced by -1.
    """
    depth = min(DEPTH, scores.shape[1])
    # Sort by integers that have the bits of the score above the item's position. The bits of
    # positive floats sort as the floats do, those of negative floats in the opposite order. Adding
    # 0 turns -0 into 0.
    bits = (np.where(np.isnan(scores), -np.inf, scores) + np.float32(0)).view(np.int32)
    descending = np.where(bits < 0, bits & 0x7FFFFFFF, ~bits).astype(np.int64)
    keys = (descending << 32) | np.arange(scores.shape[1])
    keys = np.sort(np.partition(keys, depth - 1, axis=1)[:, :depth], axis=1)
    items = keys & 0xFFFFFFFF
    return np.where(np.take_along_axis(scores, items, axis=1) > -np.inf, items, -1)


def _ranks(
    best: NDArray[np.int64], row: NDArray[np.int64], item: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the rank of each ``item`` [N] in ``best[row]``; ``DEPTH`` if it is not there."""
    matches = best[row] == item[:, None]
    return np.where(matches.any(axis=1), matches.argmax(axis=1), DEPTH)


def _pairs(
    batch: NDArray[np.int32], rows: Interactions
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the rows of the users in ``batch``, as positions in ``batch`` and items.

    Both ``batch`` and ``rows.users`` must be in ascending order.
    """
    first, last = np.searchsorted(rows.users, [batch[0], batch[-1] + 1])
    users, items = rows.users[first:last], rows.items[first:last]
    position = np.searchsorted(batch, users)
    inside = batch[position] == users
    return position[inside], items[inside]
