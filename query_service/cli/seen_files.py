"""Reads user-item pairs from the files that ``seen import`` accepts."""

import codecs
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


class InvalidInput(Exception):
    """A file or an id is invalid. The message names the file and, if possible, the line."""


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs in a CSV file, or in the trainer's ``seen.sqlite``.

    A CSV file needs the columns user_id and item_id, and may have more.

    Raises:
        InvalidInput: The file cannot be read, or a pair is invalid.
    """
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
            file.seek(0)
            yield from _read_sqlite(path) if is_sqlite else _read_csv(path, file)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error


def check_id(name: str, value: str) -> None:
    """Check that an id has 1 to 256 bytes of UTF-8.

    Raises:
        InvalidInput: The id is empty, too long or not UTF-8. The message begins with ``name``.
    """
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name} is not UTF-8") from error
    if not 1 <= size_bytes <= MAX_ID_BYTES:
        raise InvalidInput(f"{name} must have 1 to {MAX_ID_BYTES} bytes, not {size_bytes}")


def _read_csv(path: Path, file: BinaryIO) -> Iterator[Pair]:
    # utf-8-sig skips a byte order mark, which would become part of the first column's name.
    rows = csv.DictReader(codecs.iterdecode(file, "utf-8-sig"), strict=True)
    try:
        for column in _COLUMNS:
            if column not in (rows.fieldnames or ()):
                raise InvalidInput(f"{path}, line 1: there is no column {column}")
        for row in rows:
            location = f"{path}, line {rows.line_num}"
            # In a row that is too short, the missing values are None.
            yield _validated_pair(location, row["user_id"] or "", row["item_id"] or "")
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {rows.reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        # The reader has not counted the line that could not be decoded.
        raise InvalidInput(f"{path}, line {rows.reader.line_num + 1}: not UTF-8") from error


def _read_sqlite(path: Path) -> Iterator[Pair]:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            for user_id, item_id in connection.execute("SELECT user_id, item_id FROM seen"):
                yield _validated_pair(str(path), user_id, item_id)
    except sqlite3.Error as error:
        raise InvalidInput(f"{path}: {error}") from error


def _validated_pair(location: str, user_id: str, item_id: str) -> Pair:
    """Return a pair after checking its ids. Error messages begin with ``location``."""
    check_id(f"{location}: user_id", user_id)
    check_id(f"{location}: item_id", item_id)
    return user_id, item_id
