"""Seen items in SQLite: the file that the trainer writes, and a second file of recorded items."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from query_service.errors import SeenStoreUnavailable
from query_service.stores.base import Erased, Pair
from query_service.stores.recording import Recording, erase
from serving_contract import SEEN_QUERY

_BUSY_TIMEOUT_S = 0.5
#: Returns all items as one value, which takes a third of the time of as many rows; NULL if there
#: are none. The separator is a byte that does not occur in UTF-8.
_JOINED = "SELECT group_concat(item_id, CAST(x'FF' AS TEXT))"
_SEPARATOR = b"\xff"
_UP_TO = f"{_JOINED} FROM ({SEEN_QUERY} LIMIT ?)"
_NO_LIMIT = -1
_AMONG = f"{_JOINED} FROM ({SEEN_QUERY} AND item_id IN (%s))"
#: SQLite accepts 32,766 values in a statement.
_MAX_VALUES = 30_000
_NOTHING: frozenset[bytes] = frozenset()

T = TypeVar("T")


def open_store(name: str) -> "SqliteSeenStore":
    """Return the store named ``sqlite:PATH`` or ``sqlite:PATH?recorded=PATH``.

    Raises:
        ValueError: The name has another form.
    """
    path, mark, option = name.removeprefix("sqlite:").partition("?")
    key, _, recorded = option.partition("=")
    if not path or (mark and (key != "recorded" or not recorded)):
        raise ValueError("--seen-store: not a valid name; use sqlite:PATH[?recorded=PATH]")
    return SqliteSeenStore(Path(path), Path(recorded) if recorded else None)


class SqliteSeenStore:
    """Reads both files in one thread, and writes the file of recorded items in another."""

    def __init__(self, path: Path, recorded: Path | None = None) -> None:
        """Use the trainer's file ``path``; record in ``recorded``, or ``<path>-recorded``."""
        recorded = recorded or path.with_name(f"{path.name}-recorded")
        self._path = path
        self._published = _Reader(path, "ro")
        # SQLite has to write beside a file in WAL mode even to read it.
        self._recorded = _Reader(recorded, "rw")
        self._recording = Recording(recorded)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="seen-store")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="seen-recorder")

    async def seen(self, user_id: str, limit: int | None = None) -> frozenset[bytes] | None:
        """Return the ids of the items that the user has seen, or None if more than ``limit``.

        Raises:
            SeenStoreUnavailable: The trainer's file is missing, or a file is not a seen store.
        """
        if limit is None:
            return await self._read(_UP_TO, user_id, _NO_LIMIT)
        # From each file: the limit bounds the cost.
        found = await self._read(_UP_TO, user_id, limit + 1)
        return found if len(found) <= limit else None

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> frozenset[bytes]:
        """Return those of the ids that the user has seen. Raises like :meth:`seen`."""
        found = _NOTHING
        for start in range(0, len(item_ids), _MAX_VALUES):
            some = [one.decode() for one in item_ids[start : start + _MAX_VALUES]]
            found |= await self._read(_AMONG % ",".join("?" * len(some)), user_id, *some)
        return found

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Record all of the pairs or none, and return how many had not been recorded before.

        Raises:
            SeenStoreUnavailable: The file cannot be written.
        """
        return await _run(self._writing, "recorded", lambda: self._recording.add(pairs))

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase a user from both files; the trainer's file is replaced by a copy without them."""
        places = (
            (self._recording.path, self._recording.forget),
            (self._path, lambda one: _replace_without(self._path, one)),
        )

        def forget() -> list[Erased]:
            return [_erased(path, erase_in, user_id) for path, erase_in in places]

        return await _run(self._writing, "erased", forget)

    async def close(self) -> None:
        """Close the files and end the threads."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reading, self._close_readers)
        await loop.run_in_executor(self._writing, self._recording.close)
        self._reading.shutdown()
        self._writing.shutdown()

    async def _read(self, statement: str, *values: str | int) -> frozenset[bytes]:
        """Return the items that a statement finds in either file."""

        def read() -> frozenset[bytes]:
            published = self._published.read(statement, values)
            try:
                recorded = self._recorded.read(statement, values)
            except FileNotFoundError:
                return published
            return published | recorded if recorded else published

        return await _run(self._reading, "read", read)

    def _close_readers(self) -> None:
        self._published.close()
        self._recorded.close()


class _Reader:
    """Reads a file, and opens it again after it has been replaced."""

    def __init__(self, path: Path, mode: str) -> None:
        self._path = str(path)  # os.stat is faster with a string than with a Path.
        self._mode = mode
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    def read(self, statement: str, values: Sequence[str | int]) -> frozenset[bytes]:
        """Return the items that a statement finds. Raises OSError and sqlite3.Error."""
        found = os.stat(self._path)  # noqa: PTH116
        current = (found.st_dev, found.st_ino)
        if self._connection is None or self._opened != current:
            self.close()
            uri = f"{Path(self._path).resolve().as_uri()}?mode={self._mode}"
            self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)
            self._connection.text_factory = bytes
            self._opened = current
        [joined] = self._connection.execute(statement, values).fetchone()
        return frozenset(joined.split(_SEPARATOR)) if joined is not None else _NOTHING

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def _run(thread: ThreadPoolExecutor, done: str, function: Callable[[], T]) -> T:
    """Run a function in a thread; ``done`` says in the error what seen items cannot be."""
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, function)
    except (OSError, sqlite3.Error) as error:
        raise SeenStoreUnavailable(f"seen items cannot be {done}: {error}") from error


def _erased(path: Path, erase_in: Callable[[str], int], user_id: str) -> Erased:
    try:
        return Erased(str(path), erase_in(user_id))
    except (OSError, sqlite3.Error) as error:
        return Erased(str(path), 0, str(error))


def _replace_without(path: Path, user_id: str) -> int:
    """Replace a file atomically by a copy without the user; return how many items they had."""
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
            erased = erase(connection, user_id)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return erased
