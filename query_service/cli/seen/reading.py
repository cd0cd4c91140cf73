"""Reads pairs of user id and item id from files to import."""

import contextlib
import csv
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from query_service.stores.base import Pair
from serving_contract import MAX_ID_BYTES

_SQLITE_MAGIC = b"SQLite format 3\0"
_COLUMNS = ("user_id", "item_id")


class ReadError(Exception):
    """A file cannot be imported. The message names the file and, if possible, the line."""


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs in a CSV file, or in a SQLite file of the trainer.

    A CSV file may have more columns than user_id and item_id.

    Raises:
        ReadError: the file cannot be read, or a pair is invalid.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC:
                yield from _read_sqlite(path)
            else:
                file.seek(0)
                yield from _read_csv(path, file)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from error


def check_id(name: str, value: str) -> None:
    """Raise ReadError, which begins with ``name``, unless the id has 1 to 256 bytes of UTF-8."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise ReadError(f"{name} is not UTF-8") from error
    if not 1 <= size <= MAX_ID_BYTES:
        raise ReadError(f"{name} has {size} bytes: an id has 1 to {MAX_ID_BYTES}")


def _read_csv(path: Path, file: BinaryIO) -> Iterator[Pair]:
    rows = csv.reader(_lines(path, file), strict=True)
    try:
        header = next(rows, [])
        for column in _COLUMNS:
            if column not in header:
                raise ReadError(f"{path}, line 1: there is no column {column}")
        user, item = map(header.index, _COLUMNS)
        min_columns = max(user, item) + 1
        for row in rows:
            if not row:
                continue
            where = f"{path}, line {rows.line_num}"
            if len(row) < min_columns:
                raise ReadError(f"{where}: {len(row)} values, not {len(header)} as in the header")
            yield _checked(where, row[user], row[item])
    except csv.Error as error:
        raise ReadError(f"{path}, line {rows.line_num}: {error}") from error


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            # A byte order mark is not part of the first column's name.
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ReadError(f"{path}, line {number}: not UTF-8") from error


def _read_sqlite(path: Path) -> Iterator[Pair]:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            for user_id, item_id in connection.execute("SELECT user_id, item_id FROM seen"):
                yield _checked(str(path), user_id, item_id)
    except sqlite3.Error as error:
        raise ReadError(f"{path}: {error}") from error


def _checked(where: str, user_id: str, item_id: str) -> Pair:
    check_id(f"{where}: user_id", user_id)
    check_id(f"{where}: item_id", item_id)
    return user_id, item_id
