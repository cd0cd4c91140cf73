"""A random data set with known structure, for tests and for machines without other data."""

import numpy as np
import pandas as pd

from trainer.data.types import Dataset, Interactions

NAME = "synthetic"

#: How much more likely a user is to pick an item of the own taste than an equally popular one.
_TASTE_LIFT = 20.0
_POPULARITY_EXPONENT = 0.8
_START = 1_700_000_000
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

    Every user and every item has one taste, which is the column ``taste`` of their features. The
    popularity of items follows Zipf's law. A user draws distinct items by popularity, and those of
    the own taste are 20 times as likely. Users have different numbers of rows, but at least two,
    and become active at some time within a year.

    Args:
        users: number of users U.
        items: number of items I, at least 2.
        interactions: approximate number of rows; at least 2 * U and at most U * I / 2.
        tastes: number of clusters of taste.
        seed: the same seed gives the same data.

    Raises:
        ValueError: the numbers do not fit together.
    """
    if users < 1 or items < 2 or tastes < 1 or not 2 * users <= interactions <= users * items / 2:
        raise ValueError("2 * users <= interactions <= users * items / 2 must hold")
    random = np.random.default_rng(seed)
    user_taste = random.integers(tastes, size=users)
    item_taste = random.integers(tastes, size=items)
    popularity = (1.0 + random.permutation(items)) ** -_POPULARITY_EXPONENT
    activity = random.lognormal(sigma=0.8, size=users)
    counts = np.clip(interactions * activity / activity.sum(), 2, items // 2).astype(np.int64)

    chosen = []
    for user in range(users):
        weight = popularity * np.where(item_taste == user_taste[user], _TASTE_LIFT, 1.0)
        # Taking the largest keys draws without replacement by weight (Efraimidis and
        # Spirakis, 2006).
        keys = np.log(random.random(items)) / weight
        best = np.argpartition(-keys, counts[user])[: counts[user]]
        chosen.append(best[np.argsort(-keys[best])])
    row_users = np.repeat(np.arange(users), counts)
    begin = random.integers(_YEAR_S, size=users)
    gaps = random.integers(30, 3600, size=len(row_users))
    elapsed = np.cumsum(gaps)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    times = _START + begin[row_users] + elapsed - elapsed[first]
    order = np.argsort(times, kind="stable")
    return Dataset(
        name=NAME,
        user_ids=_names("u", users),
        item_ids=_names("i", items),
        titles=np.array([f"Item {i} (taste {t})" for i, t in enumerate(item_taste)], object),
        interactions=Interactions(
            row_users[order].astype(np.int32),
            np.concatenate(chosen)[order].astype(np.int32),
            times[order].astype(np.int64),
        ),
        user_features=pd.DataFrame({"taste": user_taste}),
        item_features=pd.DataFrame({"taste": item_taste}),
    )


def _names(prefix: str, count: int) -> np.ndarray:
    return np.array([f"{prefix}{number}" for number in range(count)], object)
