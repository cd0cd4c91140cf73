"""Reads the user's own interactions, items and users from CSV or Parquet files.

This module names the columns of the files. :mod:`trainer.data.tables` reads a file of either
format, :mod:`trainer.data.csv_reader` refuses malformed lines, and :mod:`trainer.data.builder`
checks the values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.data import builder, tables
from trainer.data.builder import Table
from trainer.data.types import Dataset
from trainer.errors import DataError


def load(interactions: Path, items: Path | None = None, users: Path | None = None) -> Dataset:
    """Read a data set from files whose names end in .csv or .parquet.

    Ids of any type become strings: ``007`` in a CSV file stays ``007``.

    Args:
        interactions: columns ``user_id``, ``item_id``, optionally ``timestamp`` (seconds since the
            epoch or a date) and ``rating`` (a number). Other columns are ignored.
        items: columns ``item_id``, optionally ``title``, and features. The catalogue contains
            these items and all items in ``interactions``.
        users: column ``user_id``, and features.

    Raises:
        DataError: a file cannot be read; a column is missing; an id is empty, longer than 256
            bytes, or occurs twice in ``items`` or ``users``. The message names the file,
            the line and the column.
    """
    rows = tables.read(interactions, ["user_id", "item_id"], ["timestamp", "rating"])
    if not len(rows):
        raise DataError(f"{interactions} has no rows")
    return builder.build(
        interactions.stem,
        Table(interactions, rows),
        None if items is None else Table(items, tables.read(items, ["item_id"])),
        None if users is None else Table(users, tables.read(users, ["user_id"])),
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
    frame = tables.read(path, ["item_id", *columns])
    ids = builder.read_distinct_ids(Table(path, frame), "item_id")
    titles = builder.titles(frame, np.full(len(ids), None, object))
    return Items(ids.to_numpy(object), titles, frame.drop(columns="item_id"))


def load_item_ids(path: Path) -> NDArray[np.object_]:
    """Read the column ``item_id`` and return its distinct ids as str objects.

    Raises:
        DataError: as in :func:`load`.
    """
    table = Table(path, tables.read(path, ["item_id"], []))
    ids: NDArray[np.object_] = builder.read_ids(table, "item_id").unique()
    return ids
