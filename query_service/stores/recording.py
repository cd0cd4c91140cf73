"""The SQLite file of recorded items, which several processes may write because of its WAL mode.

The items have a file of their own because every publication replaces the trainer's file by a
rename, and because the trainer's file may be read-only where the service runs.
"""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from query_service.stores.base import Pair
from serving_contract import SEEN_SCHEMA

#: Longer than the transactions of other processes, which take milliseconds.
_BUSY_TIMEOUT_S = 5.0


class Recording:
    """Writes the file from one thread, and creates it when the first pairs are added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    def add(self, pairs: Sequence[Pair]) -> int:
        """Add all of the pairs or none, and return how many are new.

        When this returns, the pairs are safely on disk.

        Raises:
            OSError, sqlite3.Error: The file cannot be created or written.
        """
        if not self.path.exists():
            _create(self.path)
        connection = self._open()
        changes_before = connection.total_changes
        with connection:
            connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", pairs)
        return connection.total_changes - changes_before

    def forget(self, user_id: str) -> int:
        """Erase all pairs of a user, and return how many there were.

        Raises:
            OSError, sqlite3.Error: The file cannot be written.
        """
        if not self.path.exists():
            return 0
        connection = self._open()
        with connection:
            erased = erase(connection, user_id)
        # The write-ahead log may still contain the erased pairs.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return erased

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        stat = self.path.stat()
        current = (stat.st_dev, stat.st_ino)
        if self._connection is None or self._opened != current:
            self.close()
            uri = f"{self.path.resolve().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)
            # A commit returns only after the data is on disk.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._opened = current
        return self._connection


def erase(connection: sqlite3.Connection, user_id: str) -> int:
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
