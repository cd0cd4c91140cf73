"""The directory that contains all versions, and the symbolic link ``current`` to the served one.

MODELS_DIR has this layout:

    versions/<v>/          retrieval/<v>/, retrieval_exact/<v>/, reports/<v>/, items.csv,
                           seen.sqlite, models.config, version.json
    current             -> versions/<v>
    retrieval           -> current/retrieval, and likewise for every other served name

A version is built in a ``.staging-*`` directory, which is then renamed to ``versions/<v>``. The
served version changes when a new link is renamed over ``current``. Both renames are atomic: even if
a process is killed, a version exists completely or not at all, and all served files belong to one
version.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from serving_contract import (
    CURRENT,
    ITEMS_CSV,
    MODEL_NAMES,
    MODELS_CONFIG,
    REPORTS,
    SEEN_SQLITE,
    VERSIONS,
)
from trainer.errors import StoreError, StoreLocked
from trainer.registry import disk

#: Directories of a version whose content is in a subdirectory named after the version number.
NUMBERED = (*MODEL_NAMES, REPORTS)
#: The names in MODELS_DIR that link to files of the served version.
SERVED_NAMES = (*NUMBERED, ITEMS_CSV, SEEN_SQLITE, MODELS_CONFIG)

_STAGING = ".staging-"
_LOCK = ".lock"
_LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.05


@dataclass(frozen=True)
class StagedVersion:
    """A version that is being built.

    Attributes:
        version: the number that the version will have.
        directory: the directory to build it in, on the same file system as MODELS_DIR. It must get
            ``retrieval``, ``retrieval_exact``, ``reports``, ``items.csv`` and ``seen.sqlite``.
    """

    version: int
    directory: Path


class Store:
    """The versions in one MODELS_DIR."""

    def __init__(self, models_dir: Path, lock_wait_s: float = _LOCK_WAIT_S) -> None:
        """Open the store in ``models_dir``, which :meth:`prepare` creates if it does not exist."""
        self.models_dir = models_dir
        self._lock_wait_s = lock_wait_s

    @classmethod
    def open_existing(cls, models_dir: Path) -> "Store":
        """Return the store in a directory that must already exist.

        Raises:
            StoreError: the directory does not exist, or has the layout of an earlier release.
        """
        if not models_dir.is_dir():
            raise StoreError(f"{models_dir}: no such directory")
        store = cls(models_dir)
        store.prepare()
        return store

    def prepare(self) -> None:
        """Create MODELS_DIR if it does not exist.

        Raises:
            OSError: the directory cannot be created.
            StoreError: the directory has the layout of an earlier release.
        """
        self.models_dir.mkdir(parents=True, exist_ok=True)
        for name in SERVED_NAMES:
            path = self.models_dir / name
            if path.exists() and not path.is_symlink():
                raise StoreError(
                    f"{path} is not a symbolic link: {self.models_dir} was written by an earlier "
                    f"release or by hand. Move it away, or pass another directory"
                )

    def directory(self, version: int) -> Path:
        """Return the directory of a version.

        Raises:
            StoreError: there is no such version.
        """
        directory = self._path(version)
        if not directory.is_dir():
            existing = ", ".join(map(str, self.versions())) or "none"
            raise StoreError(f"no version {version} in {self.models_dir}; found: {existing}")
        return directory

    def versions(self) -> list[int]:
        """Return the numbers of all versions, in ascending order."""
        directory = self.models_dir / VERSIONS
        if not directory.is_dir():
            return []
        return sorted(int(path.name) for path in directory.iterdir() if _is_number(path.name))

    def current(self) -> int | None:
        """Return the number of the served version, or None if no version is served yet.

        Raises:
            StoreError: ``current`` is not a link to a version.
        """
        link = self.models_dir / CURRENT
        try:
            target = link.readlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{link} is not a link to a version: {error.strerror}") from error
        if target.parent != Path(VERSIONS) or not _is_number(target.name):
            raise StoreError(f"{link} is not a link to a version; it points to {target}")
        return int(target.name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock on MODELS_DIR while the block changes versions or links.

        First, files that killed processes left behind are removed. The block must be short, because
        other commands wait for the lock.

        Raises:
            StoreLocked: another process held the lock for longer than ``lock_wait_s``.
            DiskFull: the disk is full.
            StoreError: MODELS_DIR has the layout of an earlier release.
        """
        self.prepare()
        with disk.disk_full_errors(self.models_dir):
            handle = os.open(self.models_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._acquire(handle)
                self._remove_leftovers()
                yield
            finally:
                os.close(handle)

    @contextmanager
    def staging(self) -> Iterator[StagedVersion]:
        """Reserve the next version number and a directory to build the version in.

        Call :meth:`add` to keep the version; otherwise the directory is removed at the end of the
        block. Concurrent runs get different numbers. A lock on the directory tells other commands
        that the directory is in use. The lock ends with the process, even if the process is killed.

        Raises:
            DiskFull: the block failed because the disk is full, whichever library reported this.
            StoreLocked, StoreError: see :meth:`lock`.
        """
        with self.lock():
            version = self._next_number()
            directory = self.models_dir / f"{_STAGING}{version}"
            directory.mkdir()
            handle = os.open(directory, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            with disk.disk_full_errors(self.models_dir):
                yield StagedVersion(version, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(handle)

    def add(self, staged: StagedVersion) -> None:
        """Add a staged version by renaming its directory. The caller must hold the lock."""
        versions = self.models_dir / VERSIONS
        versions.mkdir(exist_ok=True)
        staged.directory.rename(self._path(staged.version))
        disk.sync(versions)
        disk.sync(self.models_dir)

    def switch_current(self, version: int) -> None:
        """Serve ``version`` by renaming a link over ``current``. The caller must hold the lock.

        Raises:
            StoreError: there is no such version.
        """
        target = self.directory(version).relative_to(self.models_dir)
        for name in SERVED_NAMES:
            path = self.models_dir / name
            if not path.is_symlink():
                path.symlink_to(Path(CURRENT, name))
        new_link = self.models_dir / f"{_STAGING}{CURRENT}"
        new_link.symlink_to(target)
        new_link.replace(self.models_dir / CURRENT)
        disk.sync(self.models_dir)

    def remove(self, version: int) -> None:
        """Remove a version that is not served. The caller must hold the lock."""
        # Rename the directory first, so that a killed process leaves no partial version.
        removed = self.models_dir / f"{_STAGING}{version}-removed"
        self._path(version).rename(removed)
        disk.sync(self.models_dir / VERSIONS)
        shutil.rmtree(removed)

    def _path(self, version: int) -> Path:
        return self.models_dir / VERSIONS / str(version)

    def _next_number(self) -> int:
        staged = [path.name.removeprefix(_STAGING) for path in self._staging_paths()]
        numbers = [int(name) for name in staged if _is_number(name)]
        return max(self.versions() + numbers, default=0) + 1

    def _staging_paths(self) -> list[Path]:
        return list(self.models_dir.glob(f"{_STAGING}*"))

    def _acquire(self, handle: int) -> None:
        deadline = time.monotonic() + self._lock_wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreLocked(
                        f"another command is changing {self.models_dir}; try again later"
                    ) from None
                time.sleep(_LOCK_POLL_S)
            else:
                return

    def _remove_leftovers(self) -> None:
        for path in self._staging_paths():
            if path.is_symlink():
                path.unlink()
            else:
                with suppress(FileNotFoundError, BlockingIOError):
                    _remove_if_unused(path)


def _remove_if_unused(directory: Path) -> None:
    """Remove a staging directory that no process uses.

    Raises:
        BlockingIOError: a running process uses the directory.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    finally:
        os.close(handle)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and int(name) > 0
