"""Scorers: functions that score the whole catalogue for users."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: Returns the scores of all items for a batch of users: int32 [B] -> float32 [B, items].
Scorer = Callable[[NDArray[np.int32]], NDArray[np.float32]]


def dot_product_scorer(
    query_vectors: NDArray[np.float32],
    candidate_vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    popularity: NDArray[np.float32],
) -> Scorer:
    """Return a scorer that ranks as the exported models do.

    Scores are dot products for known users, and popularity for all others. An item whose vector is
    zero is never recommended: its score is -inf.

    Args:
        query_vectors: float32 [users, D].
        candidate_vectors: float32 [items, D].
        known: bool [users].
        popularity: float32 [items].
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
