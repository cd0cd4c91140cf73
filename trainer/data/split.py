"""Holds rows out for the test. No row is on both sides, and none is lost."""

from typing import Literal

import numpy as np

from trainer.data.types import DataError, Interactions, Split

Kind = Literal["random", "temporal", "temporal_per_user"]


def split(rows: Interactions, kind: Kind, test_share: float, seed: int) -> Split:
    """Split ``rows`` by one of the functions below; ``seed`` matters to the random one.

    Raises:
        DataError: a temporal split without timestamps, or one side would be empty.
    """
    if kind == "random":
        result = random_split(rows, test_share, seed)
    elif kind == "temporal":
        result = temporal_split(rows, test_share)
    else:
        result = temporal_per_user_split(rows, test_share)
    if not len(result.train) or not len(result.test):
        raise DataError(
            f"a {kind} split of {len(rows)} rows with test share {test_share} "
            f"leaves {len(result.train)} rows to train on and {len(result.test)} to test"
        )
    return result


def random_split(rows: Interactions, test_share: float, seed: int) -> Split:
    """Hold out random rows: for MovieLens 100K and 0.2 the tutorial's 80,000 and 20,000."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return _cut(rows, order, round(len(rows) * test_share), f"random, seed {seed}")


def temporal_split(rows: Interactions, test_share: float) -> Split:
    """Hold out the rows from a point in time on: about ``test_share`` of them.

    Rows at that very second are all held out, so no second is on both sides.
    """
    times = _timestamps(rows)
    if not len(rows):
        return Split("temporal", rows, rows)
    ordered = np.sort(times)
    cut = ordered[min(len(rows) - 1, len(rows) - round(len(rows) * test_share))]
    return Split("temporal", rows.take(times < cut), rows.take(times >= cut))


def temporal_per_user_split(rows: Interactions, test_share: float) -> Split:
    """Hold out the last ``test_share`` of every user's rows, rounded down.

    Rows of the same second keep their order.
    """
    order = np.lexsort((_timestamps(rows), rows.users))
    users = rows.users[order]
    counts = np.bincount(users) if len(users) else np.zeros(0, np.int64)
    starts = np.cumsum(counts) - counts
    place = np.arange(len(users)) - starts[users]
    kept = counts - np.floor(counts * test_share).astype(np.int64)
    held_out = np.zeros(len(rows), bool)
    held_out[order] = place >= kept[users]
    return Split("temporal_per_user", rows.take(~held_out), rows.take(held_out))


def _cut(rows: Interactions, order: np.ndarray, test: int, name: str) -> Split:
    return Split(name, rows.take(order[test:]), rows.take(order[:test]))


def _timestamps(rows: Interactions) -> np.ndarray:
    if rows.timestamps is None:
        raise DataError("a temporal split needs a timestamp column; use split.kind=random")
    return rows.timestamps
