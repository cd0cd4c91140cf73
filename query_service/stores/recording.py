"""The file of what was recorded: a SQLite database in WAL mode that several processes write.

The trainer's file is replaced by a rename at every publication, and where the service runs it may
be read-only, so what is recorded goes into this one.
"""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from query_service.stores.base import Pair
from serving_contract import SEEN_SCHEMA

#: For the other processes' transactions, which take milliseconds.
_BUSY_TIMEOUT_S = 5.0


class Recording:
    """Writes the file, from one thread; it appears with the first pairs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    def add(self, pairs: Sequence[Pair]) -> int:
        """Add all of them, or none; how many were not there. On the disk when this returns.

        Raises:
            OSError, sqlite3.Error: the file cannot be made or written.
        """
        if not self.path.exists():
            _create(self.path)
        connection = self._open()
        before = connection.total_changes
        with connection:
            connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", pairs)
        return connection.total_changes - before

    def forget(self, user_id: str) -> int:
        """Overwrite all of a user's pairs; how many there were.

        Raises:
            OSError, sqlite3.Error: the file cannot be written.
        """
        if not self.path.exists():
            return 0
        connection = self._open()
        with connection:
            erased = erase(connection, user_id)
        # Older pages are still in the write-ahead log.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return erased

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        found = self.path.stat()
        current = (found.st_dev, found.st_ino)
        if self._connection is None or self._opened != current:
            self.close()
            uri = f"{self.path.resolve().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)
            # A commit returns when it is on the disk.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._opened = current
        return self._connection


def erase(connection: sqlite3.Connection, user_id: str) -> int:
    """Delete a user's pairs and overwrite where they were; how many."""
    connection.execute("PRAGMA secure_delete = ON")
    return connection.execute("DELETE FROM seen WHERE user_id = ?", [user_id]).rowcount


def _create(path: Path) -> None:
    """Complete or not at all, and only where there is none: several processes may do so at once."""
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
