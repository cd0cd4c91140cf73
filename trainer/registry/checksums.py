"""SHA-256 checksums of a version's files.

Checksums are stored in two places. Each model's ``manifest.json`` lists the model's other files, so
that a model server can check the files that it loads. ``version.json`` lists the manifests and all
files outside the models. ``seen.sqlite`` has no checksum, because a person's rows may be erased
later; SQLite checks the integrity of this file instead.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from serving_contract import ASSETS_EXTRA, MANIFEST_FILES, MANIFEST_JSON, MODEL_NAMES, SEEN_SQLITE
from trainer.errors import StoreError
from trainer.registry import disk
from trainer.registry.store import StagedVersion
from trainer.registry.version_record import VERSION_JSON, VersionRecord

_MANIFEST = f"{ASSETS_EXTRA}/{MANIFEST_JSON}"


def compute(staged: StagedVersion) -> dict[str, str]:
    """Write each model's checksums into its manifest; return the checksums for ``version.json``.

    Call :func:`trainer.registry.layout.arrange` before.
    """
    in_models: set[Path] = set()
    for model in _model_directories(staged.directory, staged.version):
        manifest = model / _MANIFEST
        files = [path for path in disk.files(model) if path != manifest]
        values = json.loads(manifest.read_text(encoding="utf-8"))
        values[MANIFEST_FILES] = _checksums(files, model)
        manifest.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        in_models.update(files)
    unlisted = {*in_models, staged.directory / VERSION_JSON, staged.directory / SEEN_SQLITE}
    listed = [path for path in disk.files(staged.directory) if path not in unlisted]
    return _checksums(listed, staged.directory)


def verify(directory: Path, record: VersionRecord) -> int:
    """Compare all files of a version with their checksums, and check the SQLite database.

    Returns:
        The number of files checked.

    Raises:
        StoreError: a file is missing, damaged or changed, or a model has an additional file.
    """
    _check_database(directory / SEEN_SQLITE)
    # Versions from an earlier release also have a checksum of the database.
    listed = {directory / path: sha for path, sha in record.files.items() if path != SEEN_SQLITE}
    for path, checksum in listed.items():
        _check_file(path, checksum)
    models = _model_directories(directory, record.version)
    in_models: dict[Path, str] = {}
    # The manifests can be trusted now, because their own checksums have been compared.
    for model in models:
        manifest = model / _MANIFEST
        if manifest not in listed:
            raise StoreError(f"{manifest} is not listed in {directory / VERSION_JSON}")
        files = json.loads(manifest.read_text(encoding="utf-8"))[MANIFEST_FILES]
        in_models |= {model / path: checksum for path, checksum in files.items()}
    for path, checksum in in_models.items():
        _check_file(path, checksum)
    for model in models:
        for path in disk.files(model):
            if path not in in_models and path != model / _MANIFEST:
                raise StoreError(f"{path} was not published with the version; remove it")
    return len(listed) + len(in_models) + 1


def _checksums(files: Iterable[Path], directory: Path) -> dict[str, str]:
    """Return the checksum of each file, by path relative to ``directory``."""
    return {path.relative_to(directory).as_posix(): disk.checksum(path) for path in files}


def _model_directories(directory: Path, version: int) -> list[Path]:
    return [directory / name / str(version) for name in MODEL_NAMES]


def _check_database(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            [result] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if result != "ok":
        raise StoreError(f"{path} is damaged: {result}")


def _check_file(path: Path, expected: str) -> None:
    try:
        actual = disk.checksum(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if actual != expected:
        raise StoreError(f"{path} is not the file that was published: its SHA-256 differs")
