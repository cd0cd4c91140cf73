"""Seen items in SQLite: the file that the trainer writes, and a second file of recorded items.

Several processes may write the second file because of its WAL mode. The recorded items have a file
of their own because every publication replaces the trainer's file by a rename, and because the
trainer's file may be read-only where the service runs.
"""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from query_service.errors import SeenStoreUnavailable
from query_service.stores.base import Erased, Pair
from serving_contract import SEEN_QUERY, SEEN_SCHEMA

_READ_TIMEOUT_S = 0.5
#: Writers wait this long for transactions of other processes, which take milliseconds.
_WRITE_TIMEOUT_S = 5.0
#: Joins all items into one value, or NULL if there are none, because returning rows takes three
#: times as long. The separator is a byte that does not occur in UTF-8.
_SELECT_JOINED = "SELECT group_concat(item_id, CAST(x'FF' AS TEXT))"
_SEPARATOR = b"\xff"
_SELECT_SEEN = f"{_SELECT_JOINED} FROM ({SEEN_QUERY} LIMIT ?)"
_NO_LIMIT = -1
_SELECT_SEEN_AMONG = f"{_SELECT_JOINED} FROM ({SEEN_QUERY} AND item_id IN (%s))"
#: SQLite accepts 32,766 values in a statement.
_MAX_SQL_VALUES = 30_000
_NO_ITEMS: frozenset[bytes] = frozenset()

T = TypeVar("T")


def open_store(name: str) -> "SqliteSeenStore":
    """Return the store named ``sqlite:PATH`` or ``sqlite:PATH?recorded=PATH``.

    Raises:
        ValueError: The name has another form.
    """
    path, question_mark, option = name.removeprefix("sqlite:").partition("?")
    key, _, recorded = option.partition("=")
    if not path or (question_mark and (key != "recorded" or not recorded)):
        raise ValueError("--seen-store: not a valid name; use sqlite:PATH[?recorded=PATH]")
    return SqliteSeenStore(Path(path), Path(recorded) if recorded else None)


class SqliteSeenStore:
    """Reads the trainer's file and the recorded items in one thread, and records in another."""

    def __init__(self, path: Path, recorded: Path | None = None) -> None:
        """Read the trainer's file ``path``, and record in ``recorded`` or ``<path>-recorded``."""
        recorded = recorded or path.with_name(f"{path.name}-recorded")
        self._path = path
        self._published_file = _File(path, "ro", _READ_TIMEOUT_S)
        # SQLite needs write access even to read a file in WAL mode, because it writes side files.
        self._recorded_file = _File(recorded, "rw", _READ_TIMEOUT_S)
        self._recorder = _Recorder(recorded, "rw", _WRITE_TIMEOUT_S)
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="seen-store")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="seen-recorder")

    async def seen(self, user_id: str, limit: int | None = None) -> frozenset[bytes] | None:
        """Return the ids of the items that the user has seen, or None if more than ``limit``.

        Raises:
            SeenStoreUnavailable: The trainer's file is missing, or a file is not a seen store.
        """
        if limit is None:
            return await self._read(_SELECT_SEEN, user_id, _NO_LIMIT)
        # The limit applies to each file, because it bounds the cost of reading.
        item_ids = await self._read(_SELECT_SEEN, user_id, limit + 1)
        return item_ids if len(item_ids) <= limit else None

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> frozenset[bytes]:
        """Return those ``item_ids`` that the user has seen. Raises what :meth:`seen` raises."""
        seen = _NO_ITEMS
        for start in range(0, len(item_ids), _MAX_SQL_VALUES):
            chunk = [item_id.decode() for item_id in item_ids[start : start + _MAX_SQL_VALUES]]
            statement = _SELECT_SEEN_AMONG % ",".join("?" * len(chunk))
            seen |= await self._read(statement, user_id, *chunk)
        return seen

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Record all of the pairs or none, and return how many had not been recorded before.

        Raises:
            SeenStoreUnavailable: The file cannot be written.
        """
        return await _run(
            self._write_thread, lambda: self._recorder.add(pairs), "seen items cannot be recorded"
        )

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase a user from both files. A copy without the user replaces the trainer's file."""

        def erase_from_both() -> list[Erased]:
            return [
                _erase_from(self._recorder.path, lambda: self._recorder.forget(user_id)),
                _erase_from(self._path, lambda: _replace_without(self._path, user_id)),
            ]

        return await _run(self._write_thread, erase_from_both, "seen items cannot be erased")

    async def close(self) -> None:
        """Close the files and end the threads."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._read_thread, self._published_file.close)
        await loop.run_in_executor(self._read_thread, self._recorded_file.close)
        await loop.run_in_executor(self._write_thread, self._recorder.close)
        self._read_thread.shutdown()
        self._write_thread.shutdown()

    async def _read(self, statement: str, *values: str | int) -> frozenset[bytes]:
        """Return the items that a statement selects from either file."""

        def read() -> frozenset[bytes]:
            published = self._published_file.read(statement, values)
            try:
                recorded = self._recorded_file.read(statement, values)
            except FileNotFoundError:
                return published
            return published | recorded if recorded else published

        return await _run(self._read_thread, read, "seen items cannot be read")


class _File:
    """An SQLite file that is opened on first use, and reopened after it has been replaced."""

    def __init__(self, path: Path, mode: str, timeout_s: float) -> None:
        self.path = path
        self._name = str(path)  # os.stat is faster with a string than with a Path.
        self._mode, self._timeout_s = mode, timeout_s
        self._connection: sqlite3.Connection | None = None
        self._device_and_inode: tuple[int, int] | None = None

    def open(self) -> sqlite3.Connection:
        """Return the connection. Raises OSError and sqlite3.Error."""
        stat = os.stat(self._name)  # noqa: PTH116
        current = (stat.st_dev, stat.st_ino)
        if self._connection is None or self._device_and_inode != current:
            self.close()
            uri = f"{self.path.resolve().as_uri()}?mode={self._mode}"
            self._connection = sqlite3.connect(uri, uri=True, timeout=self._timeout_s)
            self._connection.text_factory = bytes
            # A commit returns only after the data is on disk.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._device_and_inode = current
        return self._connection

    def read(self, statement: str, values: Sequence[str | int]) -> frozenset[bytes]:
        """Return the items that a statement selects. Raises OSError and sqlite3.Error."""
        [joined] = self.open().execute(statement, values).fetchone()
        return frozenset(joined.split(_SEPARATOR)) if joined is not None else _NO_ITEMS

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Recorder(_File):
    """Writes the file of recorded items, which it creates for the first pairs."""

    def add(self, pairs: Sequence[Pair]) -> int:
        """Add all of the pairs or none, and return how many are new.

        When this returns, the pairs are safely on disk. Raises OSError and sqlite3.Error.
        """
        if not self.path.exists():
            _create(self.path)
        connection = self.open()
        changes_before = connection.total_changes
        with connection:
            connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", pairs)
        return connection.total_changes - changes_before

    def forget(self, user_id: str) -> int:
        """Erase all pairs of a user, and return how many there were. Raises like :meth:`add`."""
        if not self.path.exists():
            return 0
        connection = self.open()
        with connection:
            erased = _erase(connection, user_id)
        # The write-ahead log may still contain the erased pairs.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return erased


async def _run(thread: ThreadPoolExecutor, function: Callable[[], T], prefix: str) -> T:
    """Return what a function returns in a thread. Error messages begin with ``prefix``."""
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, function)
    except (OSError, sqlite3.Error) as error:
        raise SeenStoreUnavailable(f"{prefix}: {error}") from error


def _erase_from(path: Path, erase_items: Callable[[], int]) -> Erased:
    """Return the outcome of a function that erases items from a file and counts them."""
    try:
        return Erased(str(path), erase_items())
    except (OSError, sqlite3.Error) as error:
        return Erased(str(path), 0, str(error))


def _replace_without(path: Path, user_id: str) -> int:
    """Replace a file atomically with a copy without the user, and return how many items it lost."""
    path = path.resolve(strict=True)
    uri = f"{path.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        if connection.execute(SEEN_QUERY, [user_id]).fetchone() is None:
            return 0
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        shutil.copyfile(path, new)
        shutil.copymode(path, new)
        with contextlib.closing(sqlite3.connect(new)) as connection, connection:
            erased = _erase(connection, user_id)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return erased


def _erase(connection: sqlite3.Connection, user_id: str) -> int:
    """Delete a user's pairs, overwrite the space they took, and return how many there were."""
    connection.execute("PRAGMA secure_delete = ON")
    return connection.execute("DELETE FROM seen WHERE user_id = ?", [user_id]).rowcount


def _create(path: Path) -> None:
    """Create an empty file atomically, unless another process has just done so."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    new = Path(name)
    try:
        with contextlib.closing(sqlite3.connect(new)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(SEEN_SCHEMA)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(new)
    finally:
        new.unlink()
