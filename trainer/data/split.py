"""Holds rows out for evaluation. Every row is either a training row or a test row."""

from typing import Literal

import numpy as np

from trainer.data.types import Interactions, Split
from trainer.errors import DataError

Kind = Literal["random", "temporal", "temporal_per_user"]


def split(rows: Interactions, kind: Kind, test_share: float, seed: int) -> Split:
    """Split interactions into training and test rows.

    Args:
        rows: the interactions to split.
        kind: the method, implemented by one of the functions below.
        test_share: the share of the rows to hold out, between 0 and 1.
        seed: the seed of a random split. The other kinds are deterministic.

    Raises:
        DataError: a temporal split needs timestamps that the rows lack, or one part would be empty.
    """
    if kind == "random":
        result = random_split(rows, test_share, seed)
    elif kind == "temporal":
        result = temporal_split(rows, test_share)
    else:
        result = temporal_per_user_split(rows, test_share)
    if not len(result.train) or not len(result.test):
        raise DataError(
            f"a {kind} split of {len(rows)} rows with a test share of {test_share:g} leaves "
            f"{len(result.train)} training rows and {len(result.test)} test rows; use more data "
            "or another share"
        )
    return result


def random_split(rows: Interactions, test_share: float, seed: int) -> Split:
    """Hold out random rows, as the TensorFlow Recommenders tutorial does."""
    order = np.random.default_rng(seed).permutation(len(rows))
    test, train = np.split(order, [round(len(rows) * test_share)])
    return Split(f"random, seed {seed}", rows.take(train), rows.take(test))


def temporal_split(rows: Interactions, test_share: float) -> Split:
    """Hold out all rows from a point in time onwards, about ``test_share`` of all rows.

    Rows with the same timestamp are never separated.
    """
    times = _timestamps(rows)
    ordered = np.sort(times)
    cut = ordered[min(len(rows) - 1, len(rows) - round(len(rows) * test_share))]
    return Split("temporal", rows.take(times < cut), rows.take(times >= cut))


def temporal_per_user_split(rows: Interactions, test_share: float) -> Split:
    """Hold out the last ``test_share`` of every user's rows, rounded down.

    Rows with the same timestamp stay in the given order.
    """
    order = np.lexsort((_timestamps(rows), rows.users))
    users = rows.users[order]
    counts = np.bincount(users)
    starts = np.cumsum(counts) - counts
    positions = np.arange(len(users)) - starts[users]
    kept = counts - np.floor(counts * test_share).astype(np.int64)
    held_out = np.zeros(len(rows), bool)
    held_out[order] = positions >= kept[users]
    return Split("temporal_per_user", rows.take(~held_out), rows.take(held_out))


def _timestamps(rows: Interactions) -> np.ndarray:
    if rows.timestamps is None:
        raise DataError(
            "the interactions have no timestamp column, which a temporal split needs; "
            "set split.kind=random"
        )
    return rows.timestamps
