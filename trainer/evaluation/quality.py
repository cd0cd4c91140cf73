"""Computes the metrics of one model on one split."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions
from trainer.evaluation.ranking import Ranking, Scorer, rank

TOP_KS = (1, 5, 10, 50, 100)


@dataclass(frozen=True)
class TopK:
    """The share of test interactions whose item is among the k best, for several k."""

    top_1: float
    top_5: float
    top_10: float
    top_50: float
    top_100: float


@dataclass(frozen=True)
class PerUser:
    """Means over the users with test rows, with training items removed from the ranking.

    Let T be the distinct test items of a user, and let the hits be the items of T whose rank r,
    counted from 0, is below k:

    - recall@k = hits / |T|;
    - NDCG@k = sum over the hits of 1 / log2(r + 2), divided by the sum of
      1 / log2(i + 2) over i < min(k, |T|), the gain of the best possible ranking, with
      binary relevance (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR
      techniques", TOIS 2002).

    A test item that is also a training item of its user is in T, but is never a hit.
    """

    recall_at_10: float
    recall_at_100: float
    ndcg_at_10: float
    ndcg_at_100: float


@dataclass(frozen=True)
class Quality:
    """All metrics of one model on one split."""

    all_items: TopK
    unseen_items: TopK
    per_user: PerUser

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return ``{"all_items": {"top_1": ...}, "unseen_items": ...}``, as in metrics.json."""
        return asdict(self)


def evaluate(scorer: Scorer, train: Interactions, test: Interactions) -> Quality:
    """Rank the catalogue for every user with test rows, and return the metrics.

    Raises:
        ValueError: there are no test rows.
    """
    return quality(rank(scorer, train, test), test)


def quality(ranking: Ranking, test: Interactions) -> Quality:
    """Return the metrics of a ranking of the test rows."""
    return Quality(
        _top_k(ranking.all_items), _top_k(ranking.unseen_items), _per_user(ranking, test)
    )


def _top_k(ranks: NDArray[np.int64]) -> TopK:
    return TopK(**{f"top_{k}": float(np.mean(ranks < k)) for k in TOP_KS})


def _per_user(ranking: Ranking, test: Interactions) -> PerUser:
    # Repeated rows count as one test item.
    _, distinct = np.unique(np.stack([test.users, test.items]), axis=1, return_index=True)
    _, users, counts = np.unique(test.users[distinct], return_inverse=True, return_counts=True)
    ranks = ranking.unseen_items[distinct]

    def recall(k: int) -> float:
        return float(np.mean(np.bincount(users, weights=ranks < k) / counts))

    def ndcg(k: int) -> float:
        gains = np.where(ranks < k, 1 / np.log2(ranks + 2), 0.0)
        best_possible = np.cumsum(1 / np.log2(np.arange(k) + 2))
        return float(np.mean(np.bincount(users, gains) / best_possible[np.minimum(counts, k) - 1]))

    return PerUser(recall(10), recall(100), ndcg(10), ndcg(100))
