"""The data types that every reader returns. Users and items are positions in arrays of ids."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Interactions:
    """N interactions, as positions in the id arrays of a :class:`Dataset`.

    Attributes:
        users: int32 [N], positions in ``Dataset.user_ids``.
        items: int32 [N], positions in ``Dataset.item_ids``.
        timestamps: int64 [N], seconds since the epoch; None without timestamps.
        ratings: float32 [N], how much the user liked the item, on any scale; None without ratings.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None = None
    ratings: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Interactions":
        """Return the interactions at ``rows``: positions in any order, or a bool [N] mask."""
        timestamps = None if self.timestamps is None else self.timestamps[rows]
        ratings = None if self.ratings is None else self.ratings[rows]
        return Interactions(self.users[rows], self.items[rows], timestamps, ratings)

    def of_sampled_users(self, limit: int, seed: int) -> "Interactions":
        """Return the rows of a random sample of ``limit`` users, or all rows of fewer users."""
        users = np.unique(self.users)
        if len(users) <= limit:
            return self
        sample = np.random.default_rng(seed).choice(users, limit, replace=False)
        return self.take(np.isin(self.users, sample))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A catalogue of I items, U users and their interactions.

    Attributes:
        name: the name of the data set, for reports and manifests.
        user_ids: str objects [U], distinct.
        item_ids: str objects [I], distinct: the whole catalogue, including items without
            interactions.
        titles: str objects [I], for people to read. An item without a title has its id here.
        interactions: the interactions of all users.
        user_features: one row per user, in the order of ``user_ids``; None without features.
        item_features: one row per item, in the order of ``item_ids``; None without features.
    """

    name: str
    user_ids: NDArray[np.object_]
    item_ids: NDArray[np.object_]
    titles: NDArray[np.object_]
    interactions: Interactions
    user_features: pd.DataFrame | None = None
    item_features: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """The training and test rows of one data set. No row is in both.

    Attributes:
        name: the method of the split, for people to read.
        train: the rows that models learn from.
        test: the rows that models are evaluated on.
    """

    name: str
    train: Interactions
    test: Interactions
