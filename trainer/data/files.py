"""Reads interactions, items and users from CSV or Parquet files of the user."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving_contract import MAX_ID_BYTES
from trainer.data import tables
from trainer.data.columns import seconds_since_epoch
from trainer.data.tables import place
from trainer.data.types import Dataset, Interactions
from trainer.errors import DataError

_MAX_SHOWN_CHARACTERS = 40


def load(interactions: Path, items: Path | None = None, users: Path | None = None) -> Dataset:
    """Read a data set from files whose names end in .csv or .parquet.

    Ids of any type become strings: ``007`` in a CSV file stays ``007``.

    Args:
        interactions: columns ``user_id``, ``item_id``, optionally ``timestamp`` (seconds since the
            epoch or a date) and ``rating`` (a number). Other columns are ignored.
        items: columns ``item_id``, optionally ``title``, and features. The catalogue consists of
            these items and of those of the interactions.
        users: column ``user_id``, and features.

    Raises:
        DataError: a file cannot be read; a column is missing; an id is empty, longer than 256
            bytes, or occurs twice in ``items`` or ``users``. The message names file, line and
            column.
    """
    rows = tables.read(interactions, ["user_id", "item_id"], ["timestamp", "rating"])
    if not len(rows):
        raise DataError(f"{interactions} has no rows")
    row_users = _ids(rows, "user_id", interactions)
    row_items = _ids(rows, "item_id", interactions)
    user_ids, user_features = _entities("user_id", users, row_users)
    item_ids, item_features = _entities("item_id", items, row_items)
    return Dataset(
        name=interactions.stem,
        user_ids=user_ids,
        item_ids=item_ids,
        titles=item_ids if item_features is None else _titles(item_features, item_ids),
        interactions=Interactions(
            users=pd.Index(user_ids).get_indexer(row_users).astype(np.int32),
            items=pd.Index(item_ids).get_indexer(row_items).astype(np.int32),
            timestamps=_timestamps(rows, interactions),
            ratings=_ratings(rows, interactions),
        ),
        user_features=user_features,
        item_features=item_features,
    )


@dataclass(frozen=True, eq=False)
class Items:
    """The M items of one file.

    Attributes:
        ids: str objects [M], distinct.
        titles: str objects [M]; None for an item without a title.
        table: one row per item, with every column but ``item_id``.
    """

    ids: NDArray[np.object_]
    titles: NDArray[np.object_]
    table: pd.DataFrame


def load_items(path: Path, columns: Sequence[str]) -> Items:
    """Read items from a file with the columns ``item_id``, optionally ``title``, and ``columns``.

    Raises:
        DataError: as in :func:`load`.
    """
    ids, table = _distinct_rows("item_id", path, columns)
    titles = _titles(table, np.full(len(ids), None, object))
    return Items(ids.to_numpy(object), titles, table)


def load_item_ids(path: Path) -> NDArray[np.object_]:
    """Read the column ``item_id`` and return its distinct ids as str objects.

    Raises:
        DataError: as in :func:`load`.
    """
    ids: NDArray[np.object_] = _ids(tables.read(path, ["item_id"], []), "item_id", path).unique()
    return ids


def _titles(table: pd.DataFrame, default: NDArray[np.object_]) -> NDArray[np.object_]:
    if "title" not in table:
        return default
    titles = table["title"]
    present = titles.notna() & (titles != "")
    return np.where(present.to_numpy(bool), titles.astype(str).to_numpy(object), default)


def _ids(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """Return a column of ids as validated strings."""
    codes, values = pd.factorize(table[column], use_na_sentinel=True)
    ids = pd.Series([_id_text(value) for value in values], dtype=object)
    invalid = np.array([not 0 < _size_bytes(text) <= MAX_ID_BYTES for text in ids], bool)
    # Missing values have code -1, which selects the appended element.
    bad = np.append(invalid, True)[codes]
    if bad.any():
        row = int(np.argmax(bad))
        text = "" if codes[row] < 0 else ids[codes[row]]
        raise DataError(
            f"{place(path, row)}, column {column}: an id must be text of 1 to {MAX_ID_BYTES} "
            f"bytes, not {_quoted(text)}"
        )
    return ids.take(codes).reset_index(drop=True)


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


def _quoted(value: object) -> str:
    return repr(str(value)[:_MAX_SHOWN_CHARACTERS])


def _entities(
    column: str, path: Path | None, in_rows: pd.Series
) -> tuple[np.ndarray, pd.DataFrame | None]:
    """Return the ids of a file, then those that are only in interactions, and their features."""
    from_rows = pd.Index(in_rows.unique(), dtype=object)
    if path is None:
        return from_rows.to_numpy(object), None
    ids, table = _distinct_rows(column, path)
    from_file = pd.Index(ids, dtype=object)
    all_ids = from_file.append(from_rows[~from_rows.isin(from_file)])
    features = table.set_axis(from_file).reindex(all_ids).reset_index(drop=True)
    return all_ids.to_numpy(object), features


def _distinct_rows(
    column: str, path: Path, required: Sequence[str] = ()
) -> tuple[pd.Series, pd.DataFrame]:
    """Return a file's ids, which must be distinct, and its other columns."""
    table = tables.read(path, [column, *required])
    ids = _ids(table, column, path)
    duplicate = ids.duplicated()
    if duplicate.any():
        row = int(np.argmax(duplicate))
        first = int(np.argmax(ids == ids[row]))
        raise DataError(
            f"{place(path, row)}, column {column}: {ids[row]!r} is already in "
            f"{place(path, first).rpartition(', ')[2]}; every id may occur only once"
        )
    return ids, table.drop(columns=column)


def _timestamps(rows: pd.DataFrame, path: Path) -> np.ndarray | None:
    """Return seconds since the epoch as int64; None without the column."""
    if "timestamp" not in rows:
        return None
    values = rows["timestamp"]
    seconds = pd.to_numeric(values, errors="coerce").astype(np.float64)
    if seconds.isna().any() and pd.api.types.is_string_dtype(values):
        dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
        seconds = seconds.fillna(pd.Series(seconds_since_epoch(dates), index=values.index))
    bad = ~(seconds.abs() < 2**62)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{place(path, row)}, column timestamp: a time must be in seconds since the epoch or "
            f"an ISO 8601 date such as 2024-12-31T23:59:59Z, not {_quoted(values.iloc[row])}"
        )
    return seconds.to_numpy(np.float64).astype(np.int64)


def _ratings(rows: pd.DataFrame, path: Path) -> np.ndarray | None:
    """Return ratings as float32; None without the column."""
    if "rating" not in rows:
        return None
    with np.errstate(over="ignore"):  # Numbers that overflow to infinity are reported below.
        ratings: np.ndarray = pd.to_numeric(rows["rating"], errors="coerce").to_numpy(np.float32)
    bad = ~np.isfinite(ratings)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{place(path, row)}, column rating: a rating must be a finite number, "
            f"not {_quoted(rows['rating'].iloc[row])}; leave the column out if there are no ratings"
        )
    return ratings
