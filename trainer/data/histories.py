"""What every user did, in time order: the input of the query tower."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions


@dataclass(frozen=True, eq=False)
class Histories:
    """The items of U users, oldest first, end to end.

    Attributes:
        offsets: int64 [U + 1]; user u has the items at ``offsets[u]:offsets[u + 1]``.
        items: int32 [N], positions in the catalogue.
        ratings: float32 [N], how much each was liked; None where nobody said.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    ratings: NDArray[np.float32] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of items of every user, int64 [U]."""
        return np.diff(self.offsets)

    def take(self, users: NDArray[np.integer]) -> "Histories":
        """The histories of some users, int [B], in that order."""
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        place = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][users] - offsets[:-1], lengths)
        return self._at(offsets, place)

    def rows(self) -> NDArray[np.int64]:
        """The user of every item: int64 [N], as positions in these histories."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def ages(self) -> NDArray[np.int64]:
        """How many of the same user's items are newer: int64 [N], 0 for the newest."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.items))

    def keep(self, kept: NDArray[np.bool_]) -> "Histories":
        """Without the items where ``kept``, bool [N], is false."""
        passed = np.concatenate([[0], np.cumsum(kept)])
        return self._at(passed[self.offsets], kept)

    def newest(self, length: int) -> "Histories":
        """At most ``length`` items of every user: the newest."""
        return self.keep(self.ages() < length)

    def _at(
        self, offsets: NDArray[np.int64], place: NDArray[np.int64] | NDArray[np.bool_]
    ) -> "Histories":
        ratings = None if self.ratings is None else self.ratings[place]
        return Histories(offsets, self.items[place], ratings)


def of(rows: Interactions, users: int) -> Histories:
    """The histories of ``users`` users; an item done twice counts as done the last time.

    Rows without timestamps, or of the same second, keep their order.
    """
    times = np.zeros(len(rows), np.int64) if rows.timestamps is None else rows.timestamps
    order = np.lexsort((times, rows.users))
    by_user, items = rows.users[order], rows.items[order]
    # The last of equal pairs: the first one from the end.
    pair = by_user.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    _, from_end = np.unique(pair[::-1], return_index=True)
    last = np.sort(len(pair) - 1 - from_end)
    lengths = np.bincount(by_user[last], minlength=users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ratings = None if rows.ratings is None else rows.ratings[order][last]
    return Histories(offsets.astype(np.int64), items[last].astype(np.int32), ratings)
