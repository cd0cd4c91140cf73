"""Where the test items stand in a model's ranking, and what it shows at all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions
from trainer.evaluation.scorers import Scorer

#: How deep rankings are looked at: no metric looks deeper.
DEPTH = 100

# Of the score matrix of a batch of users: 128 MB of float32.
_SCORES_AT_ONCE = 32_000_000


@dataclass(frozen=True, eq=False)
class Ranking:
    """What every metric is computed from.

    Attributes:
        all_items: int64 [test rows], the rank of each row's item in its user's ranking
            of the whole catalogue, from 0; ``DEPTH`` where it is not that high.
        unseen_items: the same with the user's training items removed. A removed item
            is nowhere in the ranking.
        best_rank: int64 [items], the best rank that each item has for any user with
            test rows, training items removed; ``DEPTH`` where none is that high.
    """

    all_items: NDArray[np.int64]
    unseen_items: NDArray[np.int64]
    best_rank: NDArray[np.int64]


def rank(scorer: Scorer, train: Interactions, test: Interactions) -> Ranking:
    """Rank the catalogue for every user with test rows.

    Of equal scores the item that comes first in the catalogue ranks higher, as in
    ``tf.math.top_k`` and so in what is served. An item whose score is NaN or -inf is
    nowhere in the ranking.

    Raises:
        ValueError: there are no test rows.
    """
    if len(test) == 0:
        raise ValueError("there are no test rows")
    train_order, test_order = (np.argsort(rows.users, kind="stable") for rows in (train, test))
    seen, asked = train.take(train_order), test.take(test_order)
    users = np.unique(asked.users)
    items = scorer(users[:1]).shape[1]
    best_rank = np.full(items, DEPTH)
    ranks: list[NDArray[np.int64]] = []
    unseen_ranks: list[NDArray[np.int64]] = []
    users_at_once = max(1, _SCORES_AT_ONCE // items)
    for start in range(0, len(users), users_at_once):
        batch = users[start : start + users_at_once]
        scores = scorer(batch).astype(np.float32, copy=True)
        row, item = _pairs(batch, asked)
        ranks.append(_find(_best(scores), row, item))
        scores[_pairs(batch, seen)] = -np.inf
        best = _best(scores)
        unseen_ranks.append(_find(best, row, item))
        _, place = np.nonzero(best >= 0)
        np.minimum.at(best_rank, best[best >= 0], place)
    original = np.argsort(test_order)
    return Ranking(
        np.concatenate(ranks)[original], np.concatenate(unseen_ranks)[original], best_rank
    )


def _best(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The ``DEPTH`` best items, best first: [B, items] -> [B, at most DEPTH].

    -1 in the place of an item whose score is NaN or -inf.
    """
    depth = min(DEPTH, scores.shape[1])
    # Integers in the order of the ranking: the score's bits above, the item below. The
    # bits of a positive float are in its order, those of a negative one in the opposite.
    # Adding 0 makes -0 equal to 0.
    bits = (np.where(np.isnan(scores), -np.inf, scores) + np.float32(0)).view(np.int32)
    descending = np.where(bits < 0, bits & 0x7FFFFFFF, ~bits).astype(np.int64)
    keys = (descending << 32) | np.arange(scores.shape[1])
    keys = np.sort(np.partition(keys, depth - 1, axis=1)[:, :depth], axis=1)
    items = keys & 0xFFFFFFFF
    return np.where(np.take_along_axis(scores, items, axis=1) > -np.inf, items, -1)


def _find(
    best: NDArray[np.int64], row: NDArray[np.int64], item: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The place of each ``item`` [N] in ``best[row]``; ``DEPTH`` where it is not there."""
    found = best[row] == item[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), DEPTH)


def _pairs(
    batch: NDArray[np.int32], rows: Interactions
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Positions in ``batch`` and items of all the rows of the users in ``batch``.

    Both ``batch`` and ``rows.users`` ascend.
    """
    first, last = np.searchsorted(rows.users, [batch[0], batch[-1] + 1])
    users, items = rows.users[first:last], rows.items[first:last]
    position = np.searchsorted(batch, users)
    inside = batch[position] == users
    return position[inside], items[inside]
