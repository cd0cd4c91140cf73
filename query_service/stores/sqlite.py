"""The embedded store: the SQLite file that the trainer writes, and beside it what was recorded."""

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
#: All items as one value, which costs a third of as many rows; NULL where there are none. The byte
#: between two ids is none of UTF-8's.
_JOINED = "SELECT group_concat(item_id, CAST(x'FF' AS TEXT))"
_SEPARATOR = b"\xff"
_ALL = f"{_JOINED} FROM ({SEEN_QUERY})"
_UP_TO = f"{_JOINED} FROM ({SEEN_QUERY} LIMIT ?)"
_AMONG = f"{_JOINED} FROM ({SEEN_QUERY} AND item_id IN (%s))"
#: SQLite takes 32,766 values.
_MOST_VALUES = 30_000
_NOTHING: frozenset[bytes] = frozenset()

T = TypeVar("T")


class SqliteSeenStore:
    """Reads both files in one thread, and writes what is recorded in another."""

    def __init__(self, path: Path, recorded: Path | None = None) -> None:
        """``recorded``: where to record; ``<path>-recorded`` where it is not given."""
        recorded = recorded or path.with_name(f"{path.name}-recorded")
        self._path = path
        self._published = _Reader(path, "ro")
        # Reading a write-ahead log takes writing beside it.
        self._recorded = _Reader(recorded, "rw")
        self._recording = Recording(recorded)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="seen-store")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="seen-recorder")

    async def seen(self, user_id: str) -> frozenset[bytes]:
        """What the user has seen; empty for an unknown one.

        Raises:
            SeenStoreUnavailable: the trainer's file is missing, or one is not a seen store.
        """
        return await self._read(_ALL, user_id)

    async def seen_if_few(self, user_id: str, most: int) -> frozenset[bytes] | None:
        """The same; None where one of the files has more than ``most``."""
        found = await self._read(_UP_TO, user_id, most + 1)
        return found if len(found) <= most else None

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> frozenset[bytes]:
        """Those of the ids that the user has seen."""
        found = _NOTHING
        for start in range(0, len(item_ids), _MOST_VALUES):
            some = [one.decode() for one in item_ids[start : start + _MOST_VALUES]]
            found |= await self._read(_AMONG % ",".join("?" * len(some)), user_id, *some)
        return found

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Record all of them, or none; how many had not been recorded before.

        Raises:
            SeenStoreUnavailable: the file cannot be written.
        """
        return await _in(self._writing, "recorded", lambda: self._recording.add(pairs))

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase a user from both files, from the trainer's by putting another in its place."""
        places = (
            (self._recording.path, self._recording.forget),
            (self._path, lambda one: _replace_without(self._path, one)),
        )

        def erased() -> list[Erased]:
            return [_erased(path, forget, user_id) for path, forget in places]

        return await _in(self._writing, "erased", erased)

    async def close(self) -> None:
        """Close the files and end the threads."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reading, self._close_readers)
        await loop.run_in_executor(self._writing, self._recording.close)
        self._reading.shutdown()
        self._writing.shutdown()

    async def _read(self, statement: str, *values: str | int) -> frozenset[bytes]:
        """What a statement finds in both files."""

        def read() -> frozenset[bytes]:
            published = self._published.read(statement, values)
            try:
                recorded = self._recorded.read(statement, values)
            except FileNotFoundError:
                return published
            return published | recorded if recorded else published

        return await _in(self._reading, "read", read)

    def _close_readers(self) -> None:
        self._published.close()
        self._recorded.close()


class _Reader:
    """Reads a file, and opens it again when it is replaced."""

    def __init__(self, path: Path, mode: str) -> None:
        self._path = str(path)  # A Path takes longer to look at.
        self._mode = mode
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    def read(self, statement: str, values: Sequence[str | int]) -> frozenset[bytes]:
        """Raises OSError and sqlite3.Error."""
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


async def _in(thread: ThreadPoolExecutor, done: str, function: Callable[[], T]) -> T:
    """What the function returns, in a thread; ``done``: what cannot be done where it fails."""
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, function)
    except (OSError, sqlite3.Error) as error:
        raise SeenStoreUnavailable(f"seen items cannot be {done}: {error}") from error


def _erased(path: Path, forget: Callable[[str], int], user_id: str) -> Erased:
    try:
        return Erased(str(path), forget(user_id))
    except (OSError, sqlite3.Error) as error:
        return Erased(str(path), 0, str(error))


def _replace_without(path: Path, user_id: str) -> int:
    """A copy without the user takes the file's place, by a rename; how many items were theirs."""
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
