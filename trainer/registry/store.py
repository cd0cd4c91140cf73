"""MODELS_DIR: whole versions, and one link that says which of them is served.

    versions/<v>/          retrieval/<v>/, retrieval_exact/<v>/, reports/<v>/, items.csv,
                           seen.sqlite, models.config, version.json
    current             -> versions/<v>
    retrieval           -> current/retrieval, and so on for every name of the contract

A version is built in a ``.staging-*`` directory and renamed to ``versions/<v>``; what is
served changes by a rename over ``current``. So whenever a process is killed, all that
belongs to a version is there or nothing of it, and all that is served belongs to one.
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
from trainer.errors import Locked, StoreError
from trainer.registry import disk

#: Per version, in a directory with its number.
NUMBERED = (*MODEL_NAMES, REPORTS)
#: The names under MODELS_DIR that lead to what is served.
PUBLIC = (*NUMBERED, ITEMS_CSV, SEEN_SQLITE, MODELS_CONFIG)

_STAGING = ".staging-"
_LOCK = ".lock"
_LOCK_WAIT_S = 30.0


@dataclass(frozen=True)
class Staged:
    """A version that is being built.

    Attributes:
        version: the number it will have.
        directory: where to put ``retrieval``, ``retrieval_exact``, ``items.csv`` and
            ``seen.sqlite``. It is on MODELS_DIR's file system.
    """

    version: int
    directory: Path


class Store:
    """The versions under one MODELS_DIR."""

    def __init__(self, models_dir: Path, lock_wait_s: float = _LOCK_WAIT_S) -> None:
        self.models_dir = models_dir
        self._lock_wait_s = lock_wait_s

    @classmethod
    def opened(cls, models_dir: Path) -> "Store":
        """A store that is there: a mistyped MODELS_DIR is not made.

        Raises:
            StoreError: there is no such directory, or as of :meth:`prepare`.
        """
        if not models_dir.is_dir():
            raise StoreError(f"{models_dir}: no such directory")
        store = cls(models_dir)
        store.prepare()
        return store

    def prepare(self) -> None:
        """Make MODELS_DIR where there is none.

        Raises:
            OSError: it cannot be made.
            StoreError: it has the layout of an earlier release.
        """
        self.models_dir.mkdir(parents=True, exist_ok=True)
        for name in PUBLIC:
            path = self.models_dir / name
            if path.exists() and not path.is_symlink():
                raise StoreError(
                    f"{path} is not a link: {self.models_dir} was written by an earlier release, "
                    f"or by hand. Move it away, or name another directory"
                )

    def directory(self, version: int) -> Path:
        """Where a version is, or would be."""
        return self.models_dir / VERSIONS / str(version)

    def existing(self, version: int) -> Path:
        """Where a version is.

        Raises:
            StoreError: there is no such version.
        """
        directory = self.directory(version)
        if not directory.is_dir():
            there = ", ".join(map(str, self.versions())) or "none"
            raise StoreError(f"no version {version} in {self.models_dir}; there is: {there}")
        return directory

    def versions(self) -> list[int]:
        """Every version that is there, the lowest first."""
        return sorted(_numbers(self.models_dir / VERSIONS))

    def current(self) -> int | None:
        """The version that is served; None before the first.

        Raises:
            StoreError: the link leads elsewhere.
        """
        link = self.models_dir / CURRENT
        try:
            target = link.readlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{link} is not a link to a version: {error.strerror}") from error
        if target.parent != Path(VERSIONS) or not _is_number(target.name):
            raise StoreError(f"{link} is not a link to a version, but to {target}")
        return int(target.name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """MODELS_DIR for this process alone: to be held shortly, for a change of what is there.

        What killed processes have left is removed first.

        Raises:
            Locked: another process holds it, for longer than is sound.
            DiskFull: there is no room for the change.
            StoreError: as of :meth:`prepare`.
        """
        self.prepare()
        with disk.reported(self.models_dir):
            handle = os.open(self.models_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._acquire(handle)
                self._clean()
                yield
            finally:
                os.close(handle)

    @contextmanager
    def staging(self) -> Iterator[Staged]:
        """The next version, to be built and then :meth:`keep` kept, or else removed.

        No two runs get one number. The lock on its directory says that it is in use, and
        ends with the process, however that ends.

        Raises:
            DiskFull: what is built does not fit; whoever met it, TensorFlow and SQLite too.
            StoreError: as of :meth:`lock`.
        """
        with self.lock():
            version = self._next_number()
            directory = self.models_dir / f"{_STAGING}{version}"
            directory.mkdir()
            handle = os.open(directory, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            with disk.reported(self.models_dir):
                yield Staged(version, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(handle)

    def keep(self, staged: Staged) -> None:
        """Make a staged version one of the versions: by one rename. Holds the lock: the caller."""
        versions = self.models_dir / VERSIONS
        if not versions.is_dir():
            versions.mkdir()
            disk.sync(self.models_dir)
        staged.directory.rename(self.directory(staged.version))
        disk.sync(versions)
        disk.sync(self.models_dir)

    def switch(self, version: int) -> None:
        """Serve ``version``: by one rename. Holds the lock: the caller."""
        self.existing(version)
        for name in PUBLIC:
            path = self.models_dir / name
            if not path.is_symlink():
                path.symlink_to(Path(CURRENT, name))
        unfinished = self.models_dir / f"{_STAGING}{CURRENT}"
        unfinished.symlink_to(Path(VERSIONS, str(version)))
        unfinished.replace(self.models_dir / CURRENT)
        disk.sync(self.models_dir)

    def remove(self, version: int) -> None:
        """Remove a version that is not served. Holds the lock: the caller."""
        # First out of the versions, by one rename: half a version is none.
        removed = self.models_dir / f"{_STAGING}{version}-removed"
        self.directory(version).rename(removed)
        disk.sync(self.models_dir / VERSIONS)
        shutil.rmtree(removed)

    def _next_number(self) -> int:
        staged = {path.name.removeprefix(_STAGING) for path in self._staged()}
        return max((*self.versions(), *map(int, filter(_is_number, staged))), default=0) + 1

    def _staged(self) -> list[Path]:
        return list(self.models_dir.glob(f"{_STAGING}*"))

    def _acquire(self, handle: int) -> None:
        until = time.monotonic() + self._lock_wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Locked(
                        f"another command is at work in {self.models_dir}; try again later"
                    ) from None
                time.sleep(0.05)
            else:
                return

    def _clean(self) -> None:
        for path in self._staged():
            if path.is_symlink():
                path.unlink()
            else:
                with suppress(FileNotFoundError, BlockingIOError):
                    _remove_unused(path)


def _remove_unused(directory: Path) -> None:
    """Remove a staging directory.

    Raises:
        BlockingIOError: a living process holds it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    finally:
        os.close(handle)


def _numbers(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return [int(path.name) for path in directory.iterdir() if _is_number(path.name)]


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and int(name) > 0
