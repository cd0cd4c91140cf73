"""The items of every user in time order: the input of the query tower."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.data.types import Interactions


@dataclass(frozen=True, eq=False)
class Histories:
    """The items of U users in one array, sorted by user and then by time, the oldest first.

    The layout is the compressed sparse row format of matrices.

    Attributes:
        offsets: int64 [U + 1]; the items of user u are ``items[offsets[u]:offsets[u + 1]]``.
        items: int32 [N], positions in the catalogue.
        ratings: float32 [N], how much the user liked each item; None without ratings.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    ratings: NDArray[np.float32] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of items of each user, int64 [U]."""
        return np.diff(self.offsets)

    def take(self, users: NDArray[np.integer]) -> "Histories":
        """Return the histories of ``users``, int [B], in that order."""
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shifts = self.offsets[:-1][users] - offsets[:-1]
        return self._select(offsets, np.arange(offsets[-1]) + np.repeat(shifts, lengths))

    def rows(self) -> NDArray[np.int64]:
        """Return the position of each item's user among these histories, int64 [N]."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def newer_counts(self) -> NDArray[np.int64]:
        """Return how many of the same user's items are newer than each item, int64 [N]."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.items))

    def keep(self, kept: NDArray[np.bool_]) -> "Histories":
        """Return the histories with only the items for which ``kept``, bool [N], is true."""
        kept_before = np.concatenate([[0], np.cumsum(kept)])
        return self._select(kept_before[self.offsets], kept)

    def newest(self, length: int) -> "Histories":
        """Return the histories with only the ``length`` newest items of every user."""
        return self.keep(self.newer_counts() < length)

    def _select(
        self, offsets: NDArray[np.int64], selection: NDArray[np.int64] | NDArray[np.bool_]
    ) -> "Histories":
        ratings = None if self.ratings is None else self.ratings[selection]
        return Histories(offsets, self.items[selection], ratings)


def from_rows(rows: Interactions, users: int) -> Histories:
    """Group interactions by user.

    If a user interacted with an item more than once, only the newest row counts. Rows with the
    same timestamp, or without timestamps, stay in the given order.

    Args:
        rows: the interactions, in any order.
        users: the number of users. A user without interactions has an empty history.
    """
    times = np.zeros(len(rows), np.int64) if rows.timestamps is None else rows.timestamps
    order = np.lexsort((times, rows.users))
    by_user, items = rows.users[order], rows.items[order]
    is_newest = ~pd.DataFrame({"user": by_user, "item": items}).duplicated(keep="last").to_numpy()
    lengths = np.bincount(by_user[is_newest], minlength=users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ratings = None if rows.ratings is None else rows.ratings[order][is_newest]
    return Histories(offsets.astype(np.int64), items[is_newest].astype(np.int32), ratings)
