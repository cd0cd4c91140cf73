"""Durable writes, file checksums, and one exception for all errors about a full disk."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import DiskFull

_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
# TensorFlow and SQLite have their own exceptions for a full disk, which contain these messages.
_DISK_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded", "database or disk is full")


@contextmanager
def disk_full_errors(models_dir: Path) -> Iterator[None]:
    """Raise DiskFull if the block fails because the disk of ``models_dir`` is full."""
    try:
        yield
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code not in _DISK_FULL_ERRNOS and not any(
            message in str(error) for message in _DISK_FULL_MESSAGES
        ):
            raise
        raise DiskFull(
            f"no space left in {models_dir}. The served version has not changed. "
            f"`python -m trainer gc --models-dir {models_dir}` removes old versions"
        ) from error


def sync(path: Path) -> None:
    """Flush a file's content or a directory's entries to disk, to survive a power loss."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Flush ``directory`` and everything below it to disk, to survive a power loss."""
    for path in (*directory.rglob("*"), directory):
        sync(path)


def replace_text(path: Path, text: str) -> None:
    """Replace a file atomically and durably, by renaming a new file over the old file."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def files(directory: Path) -> list[Path]:
    """Return all files below ``directory``, sorted."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_bytes(directory: Path) -> int:
    """Return the total size of all files below ``directory``."""
    return sum(path.stat().st_size for path in files(directory))
