"""Anyone's own interactions, items and users, from CSV or Parquet."""

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
from trainer.data.types import DataError, Dataset, Interactions


def load(interactions: Path, items: Path | None = None, users: Path | None = None) -> Dataset:
    """Read a data set from files whose suffix is .csv or .parquet.

    Args:
        interactions: columns ``user_id``, ``item_id`` and optionally ``timestamp``, seconds
            since the epoch or a date, and ``rating``, a number. Others are not looked at.
        items: columns ``item_id``, optionally ``title``, and features. The catalogue is
            these items and those of the interactions.
        users: column ``user_id``, and features.

    Ids of any type are read as strings: ``007`` in a CSV file stays ``007``.

    Raises:
        DataError: a file cannot be read; a column is missing; an id is empty, over 256
            bytes, or twice in ``items`` or ``users``. It names file, line and column.
    """
    rows = tables.read(interactions, ["user_id", "item_id"], ["timestamp", "rating"])
    if not len(rows):
        raise DataError(f"{interactions}: no rows")
    row_users = _ids(rows, "user_id", interactions)
    row_items = _ids(rows, "item_id", interactions)
    user_ids, user_features = _entities("user_id", users, row_users)
    item_ids, item_features = _entities("item_id", items, row_items)
    titles = pd.Series(item_ids, dtype=object)
    if item_features is not None and "title" in item_features:
        given = item_features["title"]
        titles = given.where(given.notna() & (given != ""), titles).astype(str)
    return Dataset(
        name=interactions.stem,
        user_ids=user_ids,
        item_ids=item_ids,
        titles=titles.to_numpy(object),
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
    """M items of a file.

    Attributes:
        ids: str objects [M], distinct.
        titles: str objects [M]; None where the file says none.
        table: one row per item, every column but ``item_id``.
    """

    ids: NDArray[np.object_]
    titles: NDArray[np.object_]
    table: pd.DataFrame


def load_items(path: Path, columns: Sequence[str]) -> Items:
    """Read items: columns ``item_id``, optionally ``title``, and all of ``columns``.

    Raises:
        DataError: as of :func:`load`.
    """
    ids, table = _distinct("item_id", path, columns)
    titles = np.full(len(ids), None, object)
    if "title" in table:
        given = table["title"]
        there = (given.notna() & (given != "")).to_numpy(bool)
        titles[there] = given[there].astype(str)
    return Items(ids.to_numpy(object), titles, table)


def load_item_ids(path: Path) -> NDArray[np.object_]:
    """The ids in the column ``item_id``, each once: str objects.

    Raises:
        DataError: as of :func:`load`.
    """
    ids: NDArray[np.object_] = _ids(tables.read(path, ["item_id"], []), "item_id", path).unique()
    return ids


def _ids(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    """A column of ids as strings, each checked."""
    codes, values = pd.factorize(table[column], use_na_sentinel=True)
    names = pd.Series([_text(value) for value in values], dtype=object)
    wrong = np.array([not 0 < _size_bytes(name) <= MAX_ID_BYTES for name in names], bool)
    # Missing values have code -1: the last place.
    bad = np.append(wrong, True)[codes]
    if bad.any():
        row = int(np.argmax(bad))
        text = "" if codes[row] < 0 else names[codes[row]]
        raise DataError(
            f"{place(path, row)}, column {column}: an id is 1 to {MAX_ID_BYTES} bytes of text, "
            f"not {text[:40]!r}"
        )
    return names.take(codes).reset_index(drop=True)


def _text(value: object) -> str:
    if isinstance(value, float):
        # Infinity is nobody's id.
        return (str(int(value)) if value.is_integer() else str(value)) * math.isfinite(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    return str(value)


def _size_bytes(text: str) -> int:
    """Bytes in UTF-8; -1 for text that has no UTF-8."""
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return -1


def _entities(
    column: str, path: Path | None, seen: pd.Series
) -> tuple[np.ndarray, pd.DataFrame | None]:
    """Ids of a file, then the others in order of first appearance; their features."""
    appeared = pd.Index(seen.unique(), dtype=object)
    if path is None:
        return appeared.to_numpy(object), None
    ids, table = _distinct(column, path)
    known = pd.Index(ids, dtype=object)
    every = known.append(appeared[~appeared.isin(known)])
    features = table.set_axis(known).reindex(every).reset_index(drop=True)
    return every.to_numpy(object), features


def _distinct(
    column: str, path: Path, others: Sequence[str] = ()
) -> tuple[pd.Series, pd.DataFrame]:
    """Ids, each checked and none twice; the file's other columns, of which some must be there."""
    table = tables.read(path, [column, *others])
    ids = _ids(table, column, path)
    twice = ids.duplicated()
    if twice.any():
        row = int(np.argmax(twice))
        first = int(np.argmax(ids == ids[row]))
        raise DataError(
            f"{place(path, row)}, column {column}: {ids[row]!r} is already in "
            f"{place(path, first).rpartition(', ')[2]}"
        )
    return ids, table.drop(columns=column)


def _timestamps(rows: pd.DataFrame, path: Path) -> np.ndarray | None:
    """Seconds since the epoch, int64; None without the column."""
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
            f"{place(path, row)}, column timestamp: seconds since the epoch or an ISO 8601 date, "
            f"not {str(values.iloc[row])[:40]!r}"
        )
    return seconds.to_numpy(np.float64).astype(np.int64)


def _ratings(rows: pd.DataFrame, path: Path) -> np.ndarray | None:
    """Float32; None without the column."""
    if "rating" not in rows:
        return None
    with np.errstate(over="ignore"):  # Infinity is found below.
        ratings = pd.to_numeric(rows["rating"], errors="coerce").to_numpy(np.float32)
    bad = ~np.isfinite(ratings)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{place(path, row)}, column rating: a number, "
            f"not {str(rows['rating'].iloc[row])[:40]!r}"
        )
    result: np.ndarray = ratings
    return result
