"""The embedded store: the SQLite file that the trainer writes."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from query_service.errors import SeenStoreUnavailable
from serving_contract import SEEN_QUERY

_BUSY_TIMEOUT_S = 0.5
#: All of a user's items as one value, which costs a third of as many rows; NULL where there are
#: none. The byte between two ids is none of UTF-8's.
_JOINED = f"SELECT group_concat(item_id, CAST(x'FF' AS TEXT)) FROM ({SEEN_QUERY})"
_SEPARATOR = b"\xff"


class SqliteSeenStore:
    """Reads the file in a thread of its own, and opens it again when it is replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seen-store")
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    async def seen(self, user_id: str) -> frozenset[bytes]:
        """What the user has seen; empty for an unknown one.

        Raises:
            SeenStoreUnavailable: the file is missing or is not a seen store.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._read, user_id)
        except (OSError, sqlite3.Error) as error:
            raise SeenStoreUnavailable(f"seen items cannot be read: {error}") from error

    async def close(self) -> None:
        """Close the file and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _read(self, user_id: str) -> frozenset[bytes]:
        found = self._path.stat()
        current = (found.st_dev, found.st_ino)
        if self._connection is None or self._opened != current:
            self._close()
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)
            self._connection.text_factory = bytes
            self._opened = current
        [joined] = self._connection.execute(_JOINED, [user_id]).fetchone()
        return frozenset(joined.split(_SEPARATOR)) if joined is not None else frozenset()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
