"""Finds the versions of every model on disk, and keeps the newest working version loaded.

The old version answers until a new version is loaded and warmed up. If the new version cannot be
loaded, GetModelStatus reports the error, and the old version continues to answer.
"""

import enum
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from model_server import manifest
from model_server.errors import LoadError, NotFound
from model_server.servable import Servable
from serving_contract import CURRENT, REPORTS, VERSIONS

logger = logging.getLogger(__name__)

_MAX_INT64 = 2**63 - 1
#: Directories under MODELS_DIR that are not models.
_NOT_MODELS = (CURRENT, REPORTS, VERSIONS)


class State(enum.IntEnum):
    """The states of TensorFlow Serving's ModelVersionStatus, in the order of a version's life."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """One version of one model.

    Attributes:
        number: The version number, which is also the name of the version's directory.
        state: The current state.
        error: The reason why the version could not be loaded; otherwise None.
        servable: The loaded model while the version is AVAILABLE or UNLOADING; otherwise None.
        in_flight: The number of requests that use the servable.
    """

    number: int
    state: State = State.START
    error: LoadError | None = None
    servable: Servable | None = None
    in_flight: int = 0


#: The versions of one model, by number.
_Versions: TypeAlias = dict[int, Version]


class Manager:
    """Keeps the newest working version of every model loaded. Its methods are thread-safe.

    ``poll`` and ``close`` must not run at the same time, nor two calls of one of them.
    """

    def __init__(
        self, models_dir: Path, names: Sequence[str] = (), *, require_manifest: bool = False
    ) -> None:
        """Serve the models called ``names``, by default all. :meth:`poll` loads the models."""
        self._models_dir = models_dir
        self._names = tuple(names)
        self._require_manifest = require_manifest
        self._models: dict[str, _Versions] = {}
        self._changed = threading.Condition()

    def poll(self) -> None:
        """Check the disk once: load new versions, and unload superseded and deleted versions."""
        for name in self._names or self._find_model_names():
            try:
                # The trainer publishes a version by replacing symbolic links. Resolving the path
                # once makes sure that versions are found and loaded in the same directory.
                base = (self._models_dir / name).resolve(strict=True)
                found = _find_versions(base)
            except OSError as error:
                logger.warning("%s: %s", name, error)
                continue
            if found or name in self._models:
                self._reconcile(name, base, found)

    def ready(self) -> list[str]:
        """Return ``name/version`` for every model, or [] if any model is not served yet."""
        with self._changed:
            served = {name: _newest_available(model) for name, model in self._models.items()}
        if not served.keys() >= set(self._names) or None in served.values():
            return []
        return [f"{name}/{version.number}" for name, version in served.items() if version]

    def failures(self) -> list[str]:
        """Return the load errors of models without an available version."""
        with self._changed:
            return [
                f"{name}/{version.number}: {version.error.message}"
                for name, versions in self._models.items()
                if _newest_available(versions) is None
                for version in versions.values()
                if version.error
            ]

    @contextmanager
    def use(self, name: str, number: int | None = None) -> Iterator[tuple[int, Servable]]:
        """Keep a version loaded during the block, and yield its number and servable.

        Without a ``number``, the newest available version is used.

        Raises:
            NotFound: The model or the version is not available.
        """
        with self._changed:
            versions = self._models.get(name, {})
            version = _newest_available(versions) if number is None else versions.get(number)
            if version is None or version.state is not State.AVAILABLE or not version.servable:
                requested = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise NotFound(f"Servable not found for request: {requested}")
            version.in_flight += 1
            servable = version.servable
        try:
            yield version.number, servable
        finally:
            with self._changed:
                version.in_flight -= 1
                self._changed.notify_all()

    def status(self, name: str, number: int | None = None) -> list[Version]:
        """Return version ``number``, or all versions, newest first, including ended versions.

        Raises:
            NotFound: The model or the version does not exist.
        """
        with self._changed:
            versions = self._models.get(name)
            if not versions:
                raise NotFound(f"Could not find any versions of model {name}")
            if number is None:
                return [versions[key] for key in sorted(versions, reverse=True)]
            if number not in versions:
                raise NotFound(f"Could not find version {number} of model {name}")
            return [versions[number]]

    def close(self) -> None:
        """Unload every version. Requests in flight fail."""
        for versions in self._models.values():
            for version in versions.values():
                with self._changed:
                    servable, version.servable = version.servable, None
                    version.state = State.END
                if servable:
                    servable.close()

    def _reconcile(self, name: str, base: Path, found: set[int]) -> None:
        """Load and unload versions of a model so that the newest working one is served."""
        with self._changed:
            versions = self._models.setdefault(name, {})
            for number, version in list(versions.items()):
                # Forget a deleted version, so that it is loaded if its directory returns.
                if number not in found and version.state is State.END:
                    del versions[number]
        newest = None
        for number in sorted(found, reverse=True):
            known = versions.get(number)
            # A version that ended without an error was replaced by a newer one, which is gone now.
            if known is None or (known.state is State.END and known.error is None):
                known = self._load(name, base, number)
            if known.state is State.AVAILABLE:
                newest = known
                break
        if found and newest is None:
            # No version on disk could be loaded, so keep the version that still answers.
            return
        for version in list(versions.values()):
            if version is not newest and version.state is State.AVAILABLE:
                self._unload(name, version)

    def _load(self, name: str, base: Path, number: int) -> Version:
        """Load a version; if loading fails, set its state to END and record the error."""
        version = Version(number, State.LOADING)
        with self._changed:
            self._models[name][number] = version
        directory = base / str(number)
        try:
            manifest.check(directory, required=self._require_manifest)
            servable = Servable(directory)
        except LoadError as error:
            logger.error("%s/%d cannot be loaded: %s", name, number, error.message)
            with self._changed:
                # Copy the error, because its traceback would keep the loaded data in memory.
                version.state, version.error = State.END, LoadError(error.message, error.code)
        else:
            with self._changed:
                version.servable, version.state = servable, State.AVAILABLE
            logger.info("%s/%d is available", name, number)
        return version

    def _unload(self, name: str, version: Version) -> None:
        """Take a version out of service, wait for its requests in flight, and free it."""
        with self._changed:
            version.state = State.UNLOADING
            self._changed.wait_for(lambda: version.in_flight == 0)
            servable, version.servable, version.state = version.servable, None, State.END
        if servable:
            servable.close()
        logger.info("%s/%d is unloaded", name, version.number)

    def _find_model_names(self) -> list[str]:
        """Return the names of the models that are on disk or were found before."""
        names = set(self._models)
        try:
            for path in self._models_dir.iterdir():
                if path.is_dir() and path.name[0] != "." and path.name not in _NOT_MODELS:
                    names.add(path.name)
        except OSError as error:
            logger.warning("%s", error)
        return sorted(names)


def _newest_available(versions: _Versions) -> Version | None:
    available = [version for version in versions.values() if version.state is State.AVAILABLE]
    return max(available, key=lambda version: version.number, default=None)


def _find_versions(directory: Path) -> set[int]:
    """Return the numbers of the versions in a model's directory."""
    with os.scandir(directory) as entries:
        return {
            int(entry.name)
            for entry in entries
            if entry.name.isascii()
            and entry.name.isdigit()
            and int(entry.name) <= _MAX_INT64
            and entry.is_dir()
        }
