"""Ranks the catalogue by the scores of a model, and finds the ranks of the test items."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions

#: A function that scores the whole catalogue for a batch of users: int32 [B] -> float32 [B, items].
Scorer = Callable[[NDArray[np.int32]], NDArray[np.float32]]

#: The number of best items in a ranking. No metric needs more.
DEPTH = 100

# The maximum number of scores in memory: 128 MB of float32. This limits the users per batch.
_MAX_SCORES = 32_000_000


@dataclass(frozen=True, eq=False)
class Ranking:
    """The ranks of the test items, from which every metric is computed.

    Ranks are counted from 0. An item that is not among the ``DEPTH`` best has the rank ``DEPTH``.

    Attributes:
        all_items: int64 [test rows]. The rank of each row's item when its user's ranking contains
            the whole catalogue.
        unseen_items: int64 [test rows]. The rank of each row's item after the user's training
            items were removed from the ranking. A removed item has the rank ``DEPTH``.
        best_rank: int64 [items]. The best rank that each item has for any user with test rows,
            after the user's training items were removed from the ranking.
    """

    all_items: NDArray[np.int64]
    unseen_items: NDArray[np.int64]
    best_rank: NDArray[np.int64]


def rank(scorer: Scorer, train: Interactions, test: Interactions) -> Ranking:
    """Rank the catalogue for every user with test rows.

    If two items have the same score, the one that comes first in the catalogue ranks higher, as in
    ``tf.math.top_k``, which the exported models use. An item with a score of NaN or -inf is not
    ranked.

    Args:
        scorer: the model to evaluate.
        train: the rows whose items are removed from their users' rankings of unseen items.
        test: the rows whose items are looked up in their users' rankings.

    Returns:
        The ranks of the items of ``test``, in the order of its rows.

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
    all_ranks = np.empty(len(test), np.int64)
    unseen_ranks = np.empty(len(test), np.int64)
    batch_size = max(1, _MAX_SCORES // items)
    done = 0
    for start in range(0, len(users), batch_size):
        batch = users[start : start + batch_size]
        scores = scorer(batch).astype(np.float32, copy=True)
        test_users, test_items = _pairs(batch, test_rows)
        rows = test_order[done : done + len(test_items)]
        done += len(test_items)
        all_ranks[rows] = _ranks(best_items(scores, DEPTH), test_users, test_items)
        scores[_pairs(batch, train_rows)] = -np.inf
        best = best_items(scores, DEPTH)
        unseen_ranks[rows] = _ranks(best, test_users, test_items)
        _, rank_of_best = np.nonzero(best >= 0)
        np.minimum.at(best_rank, best[best >= 0], rank_of_best)
    return Ranking(all_ranks, unseen_ranks, best_rank)


def dot_product_scorer(
    query_vectors: NDArray[np.float32],
    candidate_vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    popularity: NDArray[np.float32],
) -> Scorer:
    """Return a scorer that ranks items as the exported models do.

    The scores are dot products for known users, and the popularity of the items for all others.

    Args:
        query_vectors: float32 [users, D].
        candidate_vectors: float32 [items, D]. An item whose vector is zero is never recommended:
            its score is -inf.
        known: bool [users], True for users that are ranked by their query vectors.
        popularity: float32 [items].
    """
    retrievable = candidate_vectors.any(axis=1)

    def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = query_vectors[users] @ candidate_vectors.T
        scores = np.where(known[users, None], scores, popularity)
        return np.where(retrievable, scores, np.float32(-np.inf))

    return score


def popularity_scorer(popularity: NDArray[np.float32]) -> Scorer:
    """Return a scorer that scores items by their popularity, float32 [items], for every user."""
    return lambda users: np.broadcast_to(popularity, (len(users), len(popularity)))


def best_items(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the items with the highest scores.

    If two items have the same score, the one that comes first in the catalogue ranks higher.

    Args:
        scores: float32 [B, items].
        count: the number of items to return. Fewer are returned if the catalogue is smaller.

    Returns:
        int64 [B, min(count, items)], positions in the catalogue, best first. Items with a score of
        NaN or -inf are replaced by -1.
    """
    count = min(count, scores.shape[1])
    # Sort by integers with the bits of the score in the upper half, and the position in the lower
    # half. Positive floats sort like their bits, negative floats in the opposite order. Adding 0
    # turns -0 into 0.
    bits = (np.where(np.isnan(scores), -np.inf, scores) + np.float32(0)).view(np.int32)
    descending = np.where(bits < 0, bits & 0x7FFFFFFF, ~bits).astype(np.int64)
    keys = (descending << 32) | np.arange(scores.shape[1])
    keys = np.sort(np.partition(keys, count - 1, axis=1)[:, :count], axis=1)
    items = keys & 0xFFFFFFFF
    return np.where(np.take_along_axis(scores, items, axis=1) > -np.inf, items, -1)


def _ranks(
    best: NDArray[np.int64], users: NDArray[np.int64], items: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the rank of each item for a user, or ``DEPTH`` if it is not among the best.

    Args:
        best: int64 [B, at most DEPTH], the best items of each user of a batch.
        users: int64 [N], positions in the batch.
        items: int32 [N], positions in the catalogue.
    """
    matches = best[users] == items[:, None]
    return np.where(matches.any(axis=1), matches.argmax(axis=1), DEPTH)


def _pairs(
    batch: NDArray[np.int32], rows: Interactions
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the users, as positions in ``batch``, and the items of all rows of these users.

    Both ``batch`` and ``rows.users`` must be in ascending order.
    """
    first, last = np.searchsorted(rows.users, [batch[0], batch[-1] + 1])
    users, items = rows.users[first:last], rows.items[first:last]
    positions = np.searchsorted(batch, users)
    inside = batch[positions] == users
    return positions[inside], items[inside]
