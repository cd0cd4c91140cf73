"""Which versions there are, and which one of each model answers.

The newest version of every model is served. A new one is loaded beside the old, which
answers until the new one is warm; a version that cannot be loaded ends with its error
and the old one goes on.
"""

import enum
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model_server import manifest
from model_server.errors import InvalidArgument, LoadError, NotFound
from model_server.servable import Servable
from serving_contract import CURRENT, REPORTS, VERSIONS

logger = logging.getLogger(__name__)

_MAX_INT64 = 2**63 - 1
# Directories under MODELS_DIR that hold no model.
_NO_MODELS = (CURRENT, REPORTS, VERSIONS)


class State(enum.IntEnum):
    """ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """One version of one model."""

    number: int
    state: State = State.START
    error: LoadError | None = None
    servable: Servable | None = None
    in_use: int = 0


@dataclass
class _Model:
    name: str
    versions: dict[int, Version] = field(default_factory=dict)


class Manager:
    """Polls MODELS_DIR and keeps the newest good version of every model loaded."""

    def __init__(
        self, models_dir: Path, names: Sequence[str] = (), *, require_manifest: bool = False
    ) -> None:
        """Serve the models called ``names``; all there are where it is empty.

        With ``require_manifest``, no version that has none: see :func:`manifest.check`.
        """
        self._models_dir = models_dir
        self._names = tuple(names)
        self._require_manifest = require_manifest
        self._models: dict[str, _Model] = {}
        self._changed = threading.Condition()

    def poll(self) -> None:
        """Look once: load what is new, unload what is gone. One caller at a time."""
        for name in self._names or self._found_names():
            try:
                # Resolved once: where links lead may change while one looks and loads.
                base = (self._models_dir / name).resolve(strict=True)
                found = _found_versions(base)
            except OSError as error:
                logger.warning("%s: %s", name, error)
                continue
            if found or name in self._models:
                self._reconcile(self._models.setdefault(name, _Model(name)), base, found)

    def ready(self) -> list[str]:
        """``name/version`` of everything that answers; empty until every model does."""
        with self._changed:
            served = [(name, self._newest(model)) for name, model in self._models.items()]
        if not served or any(version is None for _, version in served):
            return []
        if set(self._names) - {name for name, _ in served}:
            return []
        return [f"{name}/{version.number}" for name, version in served if version]

    def failures(self) -> list[str]:
        """Why models have no version that answers."""
        with self._changed:
            return [
                f"{model.name}/{version.number}: {version.error.message}"
                for model in self._models.values()
                if self._newest(model) is None
                for version in model.versions.values()
                if version.error
            ]

    @contextmanager
    def use(self, name: str, number: int | None = None) -> Iterator[tuple[int, Servable]]:
        """A version that stays loaded for the time of the block; the newest without number.

        Raises:
            NotFound: there is none that is available.
        """
        with self._changed:
            model = self._models.get(name)
            version = None
            if model:
                version = self._newest(model) if number is None else model.versions.get(number)
            if version is None or version.state is not State.AVAILABLE or not version.servable:
                which = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise NotFound(f"Servable not found for request: {which}")
            version.in_use += 1
            servable = version.servable
        try:
            yield version.number, servable
        finally:
            with self._changed:
                version.in_use -= 1
                self._changed.notify_all()

    def status(self, name: str, number: int | None = None) -> list[Version]:
        """All versions, newest first, ended ones too; or the one asked for.

        Raises:
            NotFound: there is none.
        """
        with self._changed:
            model = self._models.get(name)
            if model is None or not model.versions:
                raise NotFound(f"Could not find any versions of model {name}")
            if number is None:
                return [model.versions[key] for key in sorted(model.versions, reverse=True)]
            if number not in model.versions:
                raise NotFound(f"Could not find version {number} of model {name}")
            return [model.versions[number]]

    def label(self, label: str) -> None:
        """No labels can be set here."""
        raise InvalidArgument(f"Unrecognized servable version label: {label}")

    def close(self) -> None:
        """Free everything. What is still under way ends with an error."""
        for model in self._models.values():
            for version in model.versions.values():
                with self._changed:
                    servable, version.servable = version.servable, None
                    version.state = State.END
                if servable:
                    servable.close()

    def _reconcile(self, model: _Model, base: Path, found: set[int]) -> None:
        with self._changed:
            for number, version in list(model.versions.items()):
                # What ended and is no longer there may come back and be tried again.
                if number not in found and version.state is State.END:
                    del model.versions[number]
        for number in sorted(found, reverse=True):
            version = model.versions.get(number) or self._load(model, base, number)
            if version.state is State.END and version.error is None:
                version = self._load(model, base, number)
            if version.state is State.AVAILABLE:
                break
        newest = self._newest(model, found)
        if found and newest is None:
            return  # Whatever still answers stays, until something better does.
        for version in list(model.versions.values()):
            if version is not newest and version.state is State.AVAILABLE:
                self._unload(model, version)

    def _load(self, model: _Model, base: Path, number: int) -> Version:
        version = Version(number, State.LOADING)
        with self._changed:
            model.versions[number] = version
        directory = base / str(number)
        try:
            manifest.check(directory, required=self._require_manifest)
            servable = Servable(directory)
        except LoadError as error:
            logger.error("%s/%d cannot be served: %s", model.name, number, error.message)
            with self._changed:
                # Without its traceback, which holds all that was loaded.
                version.state, version.error = State.END, LoadError(error.message, error.code)
        else:
            with self._changed:
                version.servable, version.state = servable, State.AVAILABLE
            logger.info("%s/%d is available", model.name, number)
        return version

    def _unload(self, model: _Model, version: Version) -> None:
        """Waits for the requests under way."""
        with self._changed:
            servable = version.servable
            if servable is None:
                return
            version.state = State.UNLOADING
            self._changed.wait_for(lambda: version.in_use == 0)
            version.servable, version.state = None, State.END
        servable.close()
        logger.info("%s/%d is unloaded", model.name, version.number)

    def _newest(self, model: _Model, among: set[int] | None = None) -> Version | None:
        available = [
            version
            for number, version in model.versions.items()
            if version.state is State.AVAILABLE and (among is None or number in among)
        ]
        return max(available, key=lambda version: version.number, default=None)

    def _found_names(self) -> list[str]:
        names = set(self._models)
        try:
            for path in self._models_dir.iterdir():
                if path.is_dir() and path.name[0] != "." and path.name not in _NO_MODELS:
                    names.add(path.name)
        except OSError as error:
            logger.warning("%s", error)
        return sorted(names)


def _found_versions(directory: Path) -> set[int]:
    with os.scandir(directory) as entries:
        return {
            int(entry.name)
            for entry in entries
            if entry.name.isascii()
            and entry.name.isdigit()
            and int(entry.name) <= _MAX_INT64
            and entry.is_dir()
        }
