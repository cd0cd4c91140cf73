"""The ``seen`` command: shows and changes seen items directly in the store."""

import argparse
import asyncio
import contextlib
import csv
import os
import sqlite3
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from query_service.cli.options import fail
from query_service.errors import RetrievalError
from query_service.stores import FORMS, NONE, open_store
from query_service.stores.base import Pair, Store
from serving_contract import MAX_ID_BYTES

_SQLITE_MAGIC = b"SQLite format 3\0"
_COLUMNS = ("user_id", "item_id")
#: The number of pairs to record at a time. Larger batches would delay a service that also records.
_BATCH = 1_000

_NOT_ERASED = (
    "not checked: the trainer's data (from which the user would return at the next publication), "
    "other stored versions, and backups"
)


class ReadError(Exception):
    """A file cannot be imported. The message names the file and, if possible, the line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument(
        "--seen-store",
        default=os.environ.get("SHORTLIST_SEEN_STORE") or NONE,
        metavar="STORE",
        help=f"The seen store: {FORMS}. (default: SHORTLIST_SEEN_STORE, or none)",
    )
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[store])

    import_action = action("import", "Record all pairs in a file. An import may be repeated.")
    import_action.add_argument(
        "file",
        help="A CSV file with the columns user_id and item_id, or a seen.sqlite of the trainer.",
    )
    add_action = action("add", "Record that a user has seen items.")
    add_action.add_argument("user", help="Id of the user.")
    add_action.add_argument("items", nargs="+", metavar="item", help="Id of an item.")
    show_action = action("show", "Print what a user has seen, one item id per line.")
    show_action.add_argument("user", help="Id of the user.")
    forget_action = action("forget", "Erase everything that the store knows about a user.")
    forget_action.add_argument("user", help="Id of the user.")


def run(parsed: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Run an action; return 0, or 1 with a message on standard error."""
    try:
        return asyncio.run(_run(parsed))
    except (ReadError, RetrievalError, ValueError) as error:
        return fail(str(error))


async def _run(parsed: argparse.Namespace) -> int:
    if parsed.action == "import":
        # Read the whole file first, so that nothing is recorded if it is invalid.
        count = sum(1 for _ in _read_pairs(Path(parsed.file)))
    else:
        _check_id("the user id", parsed.user)
    for item in parsed.items if parsed.action == "add" else ():
        _check_id(f"the item id {item!r}", item)
    store = open_store(parsed.seen_store)
    try:
        match parsed.action:
            case "import":
                return await _import(store, Path(parsed.file), count)
            case "add":
                new = await store.record([(parsed.user, item) for item in parsed.items])
                _report(f"recorded {len(parsed.items):,}, of which {new:,} are new")
                return 0
            case "show":
                return await _show(store, parsed.user)
            case _:
                return await _forget(store, parsed.user)
    finally:
        await store.close()


async def _import(store: Store, path: Path, count: int) -> int:
    pairs = _read_pairs(path)
    done = new = 0
    try:
        while batch := list(islice(pairs, _BATCH)):
            new += await store.record(batch)
            done += len(batch)
    except RetrievalError as error:
        return fail(f"{error}\nrecorded {done:,} of {count:,}: repeat the import")
    _report(f"{path}: recorded {done:,}, of which {new:,} are new")
    return 0


async def _show(store: Store, user_id: str) -> int:
    items = sorted(await store.seen(user_id) or ())
    # Write bytes, because the terminal's encoding may differ.
    sys.stdout.buffer.write(b"".join(item + b"\n" for item in items))
    sys.stdout.buffer.flush()
    if not items:
        _report("the store knows nothing about this user")
    return 0


async def _forget(store: Store, user_id: str) -> int:
    outcomes = await store.forget(user_id)
    for place, items, failure in outcomes:
        _report(
            f"{place}: not erased: {failure}" if failure else f"{place}: erased {items:,} items"
        )
    _report(_NOT_ERASED)
    return 1 if any(outcome.failure for outcome in outcomes) else 0


def _report(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs in a CSV file, or in a SQLite file of the trainer.

    A CSV file may have more columns than user_id and item_id.

    Raises:
        ReadError: The file cannot be read, or a pair is invalid.
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


def _check_id(name: str, value: str) -> None:
    """Raise a ReadError that begins with ``name`` unless the id has 1 to 256 bytes of UTF-8."""
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
                raise ReadError(f"{where}: {len(row)} values, but {len(header)} in the header")
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
    _check_id(f"{where}: user_id", user_id)
    _check_id(f"{where}: item_id", item_id)
    return user_id, item_id
