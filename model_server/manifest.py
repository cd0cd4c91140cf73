"""Check the files of a model version against the checksums in its manifest."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from model_server.errors import LoadError
from serving_contract import ASSETS_EXTRA, MANIFEST_FILES, MANIFEST_JSON

logger = logging.getLogger(__name__)

_DATA_LOSS = 15  # google.rpc.Code.DATA_LOSS
_MANIFEST = f"{ASSETS_EXTRA}/{MANIFEST_JSON}"


def check(directory: Path, *, required: bool = False) -> None:
    """Compare every file of a version with the SHA-256 in its manifest.

    A version without a manifest was not made by the trainer. Such a version passes with a warning,
    unless a manifest is ``required``. The check finds damaged files. It does not protect against
    attackers who can write to the directory, because they can change the manifest as well.

    Raises:
        LoadError: A file differs, is missing, is not listed or cannot be read; or the manifest has
            no valid list of files; or a required manifest is missing.
    """
    try:
        problem = _find_problem(directory, required=required)
    except OSError as error:
        problem = f"{error.filename or directory} cannot be read: {error.strerror}"
    if problem:
        raise LoadError(problem, _DATA_LOSS)


def _find_problem(directory: Path, *, required: bool) -> str:
    """Return a description of the first problem with the files of a version, or ""."""
    try:
        listed = _listed_checksums(directory / _MANIFEST)
    except FileNotFoundError:
        if required:
            return f"{directory} has no {_MANIFEST}, and one is required"
        logger.warning("%s has no %s, so its files are not checked", directory, _MANIFEST)
        return ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{directory / _MANIFEST} does not list the files of the version"
    existing = {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    }
    for name in sorted((listed.keys() | existing) - {_MANIFEST}):
        path = directory / name
        if name not in listed:
            return f"{path} is not listed in {_MANIFEST}"
        if name not in existing:
            return f"{path} is missing"
        if _checksum(path) != listed[name]:
            return f"{path} is not the file that was published: its SHA-256 differs"
    return ""


def _listed_checksums(manifest: Path) -> Mapping[str, str]:
    """Return the SHA-256 of each file in hexadecimal, by relative path."""
    files = dict(json.loads(manifest.read_bytes())[MANIFEST_FILES])
    if not all(isinstance(part, str) for pair in files.items() for part in pair):
        raise ValueError("paths and checksums must be strings")
    return files


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
