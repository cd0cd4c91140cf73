"""Compares several models on one split, overall and by slices of the test rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions
from trainer.evaluation.quality import Quality, quality
from trainer.evaluation.ranking import DEPTH, Scorer, rank

_ITEM_SLICES = 10
_USER_SLICES = 5


@dataclass(frozen=True)
class Comparison:
    """The metrics of several models, by model name.

    Attributes:
        quality: the metrics on all test rows.
        slices: ``item_popularity`` and ``user_history``. Each slice has a ``label`` (the range of
            training-row counts of its items or users), a number of test ``rows``, and
            ``top_100``, the unseen_items.top_100 on these rows.
        coverage: ``top_10`` and ``top_100``, the share of the catalogue that is among the k best
            unseen items of at least one user with test rows.
    """

    quality: dict[str, Quality]
    slices: dict[str, list[dict[str, Any]]]
    coverage: dict[str, dict[str, float]]


def compare(
    models: Mapping[str, Callable[[], Scorer]], train: Interactions, test: Interactions, items: int
) -> Comparison:
    """Evaluate several models on the same test rows.

    Args:
        models: maps model names to functions that build scorers. Only one scorer is in memory at
            a time, because its size can be quadratic in the size of the catalogue.
        train: the rows that the models were trained on.
        test: the rows to evaluate them on.
        items: the number of items in the catalogue.

    Raises:
        ValueError: there are no test rows.
    """
    rankings = {name: rank(build(), train, test) for name, build in models.items()}
    hits = {name: ranking.unseen_items < DEPTH for name, ranking in rankings.items()}
    return Comparison(
        quality={name: quality(ranking, test) for name, ranking in rankings.items()},
        slices={
            "item_popularity": by_item_popularity(train, test, items).means(hits),
            "user_history": by_user_history(train, test).means(hits),
        },
        coverage={
            name: {f"top_{k}": float(np.mean(ranking.best_rank < k)) for k in (10, DEPTH)}
            for name, ranking in rankings.items()
        },
    )


@dataclass(frozen=True, eq=False)
class Slices:
    """A partition of the test rows.

    Attributes:
        labels: a description of each slice.
        of_row: int64 [test rows], the slice of each row.
    """

    labels: list[str]
    of_row: NDArray[np.int64]

    def means(self, hits: Mapping[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
        """Return ``{"label", "rows", "top_100": {model: share}}`` for every slice that has rows.

        ``hits`` maps model names to bool [test rows] arrays, from which the shares are computed.
        """
        return [
            {
                "label": label,
                "rows": int(in_slice.sum()),
                "top_100": {model: float(hit[in_slice].mean()) for model, hit in hits.items()},
            }
            for index, label in enumerate(self.labels)
            if (in_slice := self.of_row == index).any()
        ]


def by_item_popularity(train: Interactions, test: Interactions, items: int) -> Slices:
    """Divide the catalogue into ten equal parts, the most popular first.

    Items are sorted by descending number of training rows, with ties in catalogue order. Item
    n in that order is in part floor(10 n / items).
    """
    counts = np.bincount(train.items, minlength=items)
    parts = np.empty(items, np.int64)
    parts[np.argsort(-counts, kind="stable")] = np.arange(items) * _ITEM_SLICES // items
    return Slices(_labels(parts, counts, _ITEM_SLICES), parts[test.items])


def by_user_history(train: Interactions, test: Interactions) -> Slices:
    """Divide the users with test rows into five parts, those with the fewest training rows first.

    The bounds are quintiles of the number of training rows. Users with the same number are in the
    same part, so parts can have different sizes or be empty.
    """
    users, of_row = np.unique(test.users, return_inverse=True)
    counts_by_user = np.bincount(train.users, minlength=int(users[-1]) + 1)
    counts = counts_by_user[users]
    bounds = np.quantile(counts, np.arange(1, _USER_SLICES) / _USER_SLICES)
    parts = np.searchsorted(bounds, counts, side="left")
    return Slices(_labels(parts, counts, _USER_SLICES), parts[of_row])


def _labels(parts: NDArray[np.int64], counts: NDArray[np.int64], part_count: int) -> list[str]:
    """Return the range of the training-row counts in each part, like ``19 to 20``."""
    labels = []
    for part in range(part_count):
        inside = counts[parts == part]
        low, high = (inside.min(), inside.max()) if len(inside) else (0, 0)
        labels.append(f"{low:,}" if low == high else f"{low:,} to {high:,}")
    return labels
