"""Builds a data set from tables of interactions, items and users.

This module validates ids, timestamps and ratings, regardless of the file format. The modules that
read files check the syntax.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from serving_contract import MAX_ID_BYTES
from trainer.data.columns import seconds_since_epoch
from trainer.data.tables import location
from trainer.data.types import Dataset, Interactions
from trainer.errors import DataError

_MAX_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, eq=False)
class Table:
    """The content of one file.

    Attributes:
        path: the file, for error messages.
        frame: the rows of the file, in file order.
    """

    path: Path
    frame: pd.DataFrame

    def require(self, valid: ArrayLike, column: str, rule: str) -> None:
        """Raise DataError for the first row whose value in ``column`` is not valid.

        Args:
            valid: bool [rows].
            column: the name of the column.
            rule: the requirement in words, like "a rating must be a finite number".
        """
        valid = np.asarray(valid, bool)
        if not valid.all():
            row = int(np.argmin(valid))
            value = self.frame[column].iloc[row]
            text = str(value)[:_MAX_SHOWN_CHARACTERS]
            problem = "but it is missing" if pd.isna(value) else f"not {text!r}"
            raise DataError(f"{location(self.path, row)}, column {column}: {rule}, {problem}")


def build(name: str, rows: Table, items: Table | None, users: Table | None) -> Dataset:
    """Build a data set.

    Args:
        name: the name of the data set.
        rows: the interactions, with the columns ``user_id``, ``item_id`` and, optionally,
            ``timestamp`` and ``rating``.
        items: the column ``item_id``, optionally ``title``, and features. Items that occur only in
            ``rows`` are added to the catalogue.
        users: the column ``user_id`` and features. Users that occur only in ``rows`` are added.

    Raises:
        DataError: a value is invalid, or an id occurs twice in ``items`` or ``users``.
    """
    row_users, row_items = read_ids(rows, "user_id"), read_ids(rows, "item_id")
    user_ids, user_features = _entities("user_id", users, row_users)
    item_ids, item_features = _entities("item_id", items, row_items)
    return Dataset(
        name=name,
        user_ids=user_ids,
        item_ids=item_ids,
        titles=item_ids if item_features is None else titles(item_features, item_ids),
        interactions=Interactions(
            users=pd.Index(user_ids).get_indexer(pd.Index(row_users)).astype(np.int32),
            items=pd.Index(item_ids).get_indexer(pd.Index(row_items)).astype(np.int32),
            timestamps=_timestamps(rows) if "timestamp" in rows.frame else None,
            ratings=_ratings(rows) if "rating" in rows.frame else None,
        ),
        user_features=user_features,
        item_features=item_features,
    )


def read_ids(table: Table, column: str) -> pd.Series:
    """Return a column of ids as strings.

    Raises:
        DataError: an id is missing, empty or too long, or is not valid text.
    """
    codes, values = pd.factorize(table.frame[column], use_na_sentinel=True)
    ids = pd.Series([_id_text(value) for value in values], dtype=object)
    valid = np.array([0 < _size_bytes(text) <= MAX_ID_BYTES for text in ids], bool)
    # A missing value has the code -1, which selects the appended element.
    rule = f"an id must be text of 1 to {MAX_ID_BYTES} bytes"
    table.require(np.append(valid, False)[codes], column, rule)
    return ids.take(codes).reset_index(drop=True)


def read_distinct_ids(table: Table, column: str) -> pd.Series:
    """Return a column of ids as :func:`read_ids` does, but also refuse an id that occurs twice."""
    ids = read_ids(table, column)
    duplicate = ids.duplicated()
    if duplicate.any():
        row = int(np.argmax(duplicate))
        first = int(np.argmax(ids == ids[row]))
        raise DataError(
            f"{location(table.path, row)}, column {column}: {ids[row]!r} is already in "
            f"{location(table.path, first).rpartition(', ')[2]}; every id may occur only once"
        )
    return ids


def titles(features: pd.DataFrame, default: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the column ``title`` as strings, with ``default`` in place of missing titles."""
    if "title" not in features:
        return default
    column = features["title"]
    present = column.notna() & (column != "")
    return np.where(present.to_numpy(bool), column.astype(str).to_numpy(object), default)


def _id_text(value: object) -> str:
    """Return an id as a string; an empty string, which is invalid, for NaN and infinity."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    return str(value)


def _size_bytes(text: str) -> int:
    """Return the length of ``text`` in UTF-8; -1 if it cannot be encoded."""
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return -1


def _entities(
    column: str, table: Table | None, row_ids: pd.Series
) -> tuple[NDArray[np.object_], pd.DataFrame | None]:
    """Return the ids of a table and then all other ids of the interactions, and the features.

    An id that is not in the table gets a row of missing features.
    """
    from_rows = pd.Index(row_ids.unique(), dtype=object)
    if table is None:
        return from_rows.to_numpy(object), None
    from_table = pd.Index(read_distinct_ids(table, column), dtype=object)
    all_ids = from_table.append(from_rows[~from_rows.isin(from_table)])
    features = table.frame.drop(columns=column).set_axis(from_table).reindex(all_ids)
    return all_ids.to_numpy(object), features.reset_index(drop=True)


def _timestamps(rows: Table) -> NDArray[np.int64]:
    """Return the column ``timestamp`` in seconds since the epoch."""
    values = rows.frame["timestamp"]
    seconds = pd.to_numeric(values, errors="coerce").astype(np.float64)
    if seconds.isna().any() and pd.api.types.is_string_dtype(values):
        dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
        seconds = seconds.fillna(pd.Series(seconds_since_epoch(dates), index=values.index))
    rule = (
        "a time must be in seconds since the epoch or an ISO 8601 date such as 2024-12-31T23:59:59Z"
    )
    rows.require(seconds.abs() < 2**62, "timestamp", rule)
    return seconds.to_numpy(np.float64).astype(np.int64)


def _ratings(rows: Table) -> NDArray[np.float32]:
    """Return the column ``rating`` as numbers."""
    with np.errstate(over="ignore"):  # Overflow to infinity is reported below.
        ratings = pd.to_numeric(rows.frame["rating"], errors="coerce").to_numpy(np.float32)
    rule = "a rating must be a finite number (leave the column out if you have no ratings)"
    rows.require(np.isfinite(ratings), "rating", rule)
    return np.asarray(ratings)
