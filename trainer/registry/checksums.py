"""A version's files: put in their places, listed with their digests, checked later.

``seen.sqlite`` has no digest, since what is known of a person may be erased from it. SQLite looks
whether it is whole.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from serving_contract import (
    ASSETS_EXTRA,
    ITEMS_CSV,
    MANIFEST_FILES,
    MANIFEST_JSON,
    MODEL_NAMES,
    MODELS_CONFIG,
    SEEN_SQLITE,
)
from trainer.errors import StoreError
from trainer.registry import disk
from trainer.registry.store import NUMBERED, Staged
from trainer.registry.version_record import VERSION_JSON, Record


def arrange(staged: Staged) -> None:
    """``retrieval`` becomes ``retrieval/<v>``, and so on; manifests list their models' files.

    Raises:
        StoreError: a part of the version is not there.
    """
    (staged.directory / MODELS_CONFIG).write_text(models_config(), encoding="utf-8")
    for name in (*NUMBERED, ITEMS_CSV, SEEN_SQLITE):
        if not (staged.directory / name).exists():
            raise StoreError(f"{staged.directory} has no {name}: it is not a whole version")
    for name in NUMBERED:
        aside = staged.directory / f".{name}"
        (staged.directory / name).rename(aside)
        (staged.directory / name).mkdir()
        aside.rename(staged.directory / name / str(staged.version))
    for manifest in _manifests(staged.directory, staged.version):
        model = _model_of(manifest)
        values = json.loads(manifest.read_text(encoding="utf-8"))
        values[MANIFEST_FILES] = _without(disk.digests(model), _MANIFEST)
        manifest.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def digests(staged: Staged) -> dict[str, str]:
    """What the record lists: see :class:`Record`. After :func:`arrange`."""
    models = {_model_of(one) for one in _manifests(staged.directory, staged.version)}
    listed = (
        path
        for path in sorted(staged.directory.rglob("*"))
        if path.is_file() and not models & set(path.parents)
    )
    manifests = _manifests(staged.directory, staged.version)
    return {
        path.relative_to(staged.directory).as_posix(): disk.digest(path)
        for path in (*listed, *manifests)
        if path.name not in (VERSION_JSON, SEEN_SQLITE)
    }


def check(directory: Path, record: Record) -> int:
    """Compare all files with their digests, and look at the database; how many there are.

    Raises:
        StoreError: one is missing or damaged, or is not the one that was published; or a model
            has one more.
    """
    _check_database(directory / SEEN_SQLITE)
    # A version of an earlier release has a digest of the database, too.
    listed = {directory / path: one for path, one in record.files.items() if path != SEEN_SQLITE}
    for path, digest in listed.items():
        _check(path, digest)
    models: dict[Path, str] = {}
    # Only now: a manifest is to be believed when it is the one that was published.
    for manifest in _manifests(directory, record.version):
        if manifest not in listed:
            raise StoreError(f"{manifest} is not listed in {directory / VERSION_JSON}")
        files = json.loads(manifest.read_text(encoding="utf-8"))[MANIFEST_FILES]
        models |= {_model_of(manifest) / path: digest for path, digest in files.items()}
    for path, digest in models.items():
        _check(path, digest)
    for manifest in _manifests(directory, record.version):
        for path in sorted(_model_of(manifest).rglob("*")):
            if path.is_file() and path not in models and path != manifest:
                raise StoreError(f"{path} is not one of the files that were published")
    return len(listed) + len(models) + 1


def models_config() -> str:
    """TensorFlow Serving's ``--model_config_file`` for both models, under /models."""
    entries = "".join(
        f'  config {{\n    name: "{name}"\n    base_path: "/models/{name}"\n'
        f'    model_platform: "tensorflow"\n  }}\n'
        for name in MODEL_NAMES
    )
    return f"model_config_list {{\n{entries}}}\n"


_MANIFEST = f"{ASSETS_EXTRA}/{MANIFEST_JSON}"


def _manifests(directory: Path, version: int) -> list[Path]:
    return [directory / name / str(version) / _MANIFEST for name in MODEL_NAMES]


def _model_of(manifest: Path) -> Path:
    return manifest.parent.parent


def _without(values: dict[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name != key}


def _check_database(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            [found] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if found != "ok":
        raise StoreError(f"{path} is damaged: {found}")


def _check(path: Path, digest: str) -> None:
    try:
        found = disk.digest(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if found != digest:
        raise StoreError(f"{path} is not the file that was published: its SHA-256 differs")
