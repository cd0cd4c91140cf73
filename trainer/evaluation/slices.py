"""Divides test rows into slices by popularity of the item and by length of the user's history."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions

_ITEM_SLICES = 10
_USER_SLICES = 5


@dataclass(frozen=True, eq=False)
class Slices:
    """A partition of the test rows.

    Attributes:
        labels: a description of each of the S slices.
        of_row: int64 [test rows], the slice of each row.
    """

    labels: list[str]
    of_row: NDArray[np.int64]

    def means(self, values: Mapping[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
        """Return ``{"label", "rows", "top_100": {model: mean}}`` for every slice that has rows.

        Args:
            values: by name of the model, bool [test rows].
        """
        return [
            {
                "label": label,
                "rows": int(inside.sum()),
                "top_100": {model: float(value[inside].mean()) for model, value in values.items()},
            }
            for number, label in enumerate(self.labels)
            if (inside := self.of_row == number).any()
        ]


def by_item_popularity(train: Interactions, test: Interactions, items: int) -> Slices:
    """Divide the catalogue into ten equal parts, the most popular first.

    Items are sorted by descending number of training rows, and among equals in the order of the
    catalogue. Item n of that order is in part floor(10 n / items).
    """
    counts = np.bincount(train.items, minlength=items)
    part = np.empty(items, np.int64)
    part[np.argsort(-counts, kind="stable")] = np.arange(items) * _ITEM_SLICES // items
    return Slices(_labels(part, counts, _ITEM_SLICES), part[test.items])


def by_user_history(train: Interactions, test: Interactions) -> Slices:
    """Divide the users with test rows into five parts, those with the fewest training rows first.

    The bounds are quintiles of the number of training rows. Users with the same number are in the
    same part, so parts can have different sizes or be empty.
    """
    users, of_row = np.unique(test.users, return_inverse=True)
    every = np.bincount(train.users, minlength=int(users[-1]) + 1)
    counts = every[users]
    bounds = np.quantile(counts, np.arange(1, _USER_SLICES) / _USER_SLICES)
    part = np.searchsorted(bounds, counts, side="left")
    return Slices(_labels(part, counts, _USER_SLICES), part[of_row])


def _labels(part: NDArray[np.int64], counts: NDArray[np.int64], parts: int) -> list[str]:
    """Return the smallest and largest number of training rows in each part."""
    ranges = [counts[part == number] for number in range(parts)]
    return [
        "" if not len(inside) else _range(int(inside.min()), int(inside.max())) for inside in ranges
    ]


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
