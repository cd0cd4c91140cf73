"""Writes the files items.csv and seen.sqlite of a version, and reads items.csv."""

import csv
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from serving_contract import ITEMS_CSV, SEEN_SCHEMA, SEEN_SQLITE
from trainer.data.types import Dataset


def write(directory: Path, dataset: Dataset) -> None:
    """Write both files for a data set. All interactions count as seen, including held-out rows."""
    interactions = dataset.interactions
    write_items(directory / ITEMS_CSV, zip(dataset.item_ids, dataset.titles, strict=True))
    users, items = dataset.user_ids[interactions.users], dataset.item_ids[interactions.items]
    write_seen(directory / SEEN_SQLITE, zip(users, items, strict=True))


def write_ids(directory: Path, item_ids: NDArray[np.bytes_]) -> None:
    """Write both files for items without titles or interactions; ``item_ids`` is UTF-8 [N]."""
    # The csv module would be too slow for ten million rows.
    ids = pa.array(item_ids, pa.large_binary()).cast(pa.large_string())
    table = pa.table({"item_id": ids, "title": ids})
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    pyarrow.csv.write_csv(table, directory / ITEMS_CSV, options)
    write_seen(directory / SEEN_SQLITE, ())


def write_items(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write an items.csv from (item id, title) pairs."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title"])
        writer.writerows(rows)


def read_item_ids(path: Path) -> Iterator[str]:
    """Yield the item ids in an items.csv, row by row."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["item_id"]


def write_seen(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Write a seen.sqlite from (user id, item id) pairs; duplicate pairs are ignored."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(SEEN_SCHEMA)
        connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", pairs)
