"""What files are asked beside reading and writing: to last, their digests, what is full."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
# TensorFlow and SQLite have errors of their own for it.
_WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")


@contextmanager
def reported(models_dir: Path) -> Iterator[None]:
    """Turn every library's error about a full disk into one.

    Raises:
        DiskFull: instead of it.
    """
    try:
        yield
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code not in _FULL and not any(word in str(error) for word in _WORDS):
            raise
        raise DiskFull(
            f"no space left in {models_dir}: what was served there still is. "
            f"`python -m trainer gc --models-dir {models_dir}` removes old versions"
        ) from error


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a directory, outlast a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """:func:`sync` for everything below ``directory``, and itself."""
    for path in (*directory.rglob("*"), directory):
        sync(path)


def replace_text(path: Path, text: str) -> None:
    """Write a file anew: by one rename, and to last."""
    unfinished = path.with_name(f".{path.name}")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync(path.parent)


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 in hexadecimal of every file below ``directory``, by its path from there."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): digest(path) for path in files}


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_bytes(directory: Path) -> int:
    """Of all the files below."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
