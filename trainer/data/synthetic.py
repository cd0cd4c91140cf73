"""Generates a random data set with known structure, for tests and for machines without data."""

import numpy as np
import pandas as pd

from trainer.data.types import Dataset, Interactions

NAME = "synthetic"

# An item of the user's taste is drawn this many times as often as an equally popular other item.
_TASTE_LIFT = 20.0
_POPULARITY_EXPONENT = 0.8
_FIRST_TIMESTAMP = 1_700_000_000
_YEAR_S = 365 * 24 * 3600


def load(
    *,
    users: int = 943,
    items: int = 1682,
    interactions: int = 100_000,
    tastes: int = 8,
    seed: int = 0,
) -> Dataset:
    """Generate a data set with clusters of taste, skewed popularity and timestamps.

    Each user and each item belongs to one taste, which is stored in the feature column ``taste``.
    The popularity of items follows Zipf's law. Each user interacts with distinct items, which are
    drawn with probabilities proportional to their popularity, multiplied by 20 for items of the
    user's taste. Users have different numbers of rows, at least two, and each user starts at a
    random time within one year.

    Args:
        users: number of users U, at least 1.
        items: number of items I, at least 4.
        interactions: approximate number of rows; at least 2 * U and at most U * I / 2.
        tastes: number of clusters of taste, at least 1.
        seed: the same seed gives the same data.
    """
    rng = np.random.default_rng(seed)
    user_tastes = rng.integers(tastes, size=users)
    item_tastes = rng.integers(tastes, size=items)
    popularity = (1.0 + rng.permutation(items)) ** -_POPULARITY_EXPONENT
    activity = rng.lognormal(sigma=0.8, size=users)
    counts = np.clip(interactions * activity / activity.sum(), 2, items // 2).astype(np.int64)

    chosen = []
    for user in range(users):
        weights = popularity * np.where(item_tastes == user_tastes[user], _TASTE_LIFT, 1.0)
        # The items with the largest keys are a weighted sample without replacement (Efraimidis and
        # Spirakis, 2006).
        keys = np.log(rng.random(items)) / weights
        drawn = np.argpartition(-keys, counts[user])[: counts[user]]
        chosen.append(drawn[np.argsort(-keys[drawn])])
    row_users = np.repeat(np.arange(users), counts)
    starts = rng.integers(_YEAR_S, size=users)
    gaps = rng.integers(30, 3600, size=len(row_users))
    elapsed = np.cumsum(gaps)
    first_rows = np.repeat(np.cumsum(counts) - counts, counts)
    times = _FIRST_TIMESTAMP + starts[row_users] + elapsed - elapsed[first_rows]
    order = np.argsort(times, kind="stable")
    return Dataset(
        name=NAME,
        user_ids=np.array([f"u{number}" for number in range(users)], object),
        item_ids=np.array([f"i{number}" for number in range(items)], object),
        titles=np.array([f"Item {i} (taste {t})" for i, t in enumerate(item_tastes)], object),
        interactions=Interactions(
            row_users[order].astype(np.int32),
            np.concatenate(chosen)[order].astype(np.int32),
            times[order].astype(np.int64),
        ),
        user_features=pd.DataFrame({"taste": user_tastes}),
        item_features=pd.DataFrame({"taste": item_tastes}),
    )
