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

    A version without a manifest was not made by the trainer. It passes with a warning, unless a
    manifest is ``required``. The check finds damaged files. It is no protection against someone
    who can write to the directory, and so can change the manifest as well.

    Raises:
        LoadError: A file differs, is missing or is not listed; or the manifest is missing
            although it is required, or does not list the files.
    """
    listed = _listed_checksums(directory)
    if listed is None:
        if required:
            raise LoadError(f"{directory} has no {_MANIFEST}, and one is required", _DATA_LOSS)
        logger.warning("%s has no %s, so its files are not checked", directory, _MANIFEST)
        return
    existing = _existing_files(directory)
    for name in sorted(listed.keys() | existing):
        if name == _MANIFEST:
            continue
        if name not in listed:
            raise LoadError(f"{directory / name} is not listed in {_MANIFEST}", _DATA_LOSS)
        if name not in existing:
            raise LoadError(f"{directory / name} is missing", _DATA_LOSS)
        if _checksum(directory / name) != listed[name]:
            raise LoadError(
                f"{directory / name} is not the file that was published: its SHA-256 differs",
                _DATA_LOSS,
            )


def _listed_checksums(directory: Path) -> Mapping[str, str] | None:
    """Return the SHA-256 in hexadecimal by relative path, or None without a manifest."""
    path = directory / _MANIFEST
    try:
        files = dict(json.loads(path.read_bytes())[MANIFEST_FILES])
        if not all(isinstance(part, str) for pair in files.items() for part in pair):
            raise ValueError("paths and checksums have to be strings")
        return files
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoadError(f"{path} does not list the files of the version", _DATA_LOSS) from error


def _existing_files(directory: Path) -> set[str]:
    try:
        files = [path for path in directory.rglob("*") if path.is_file()]
    except OSError as error:
        raise _unreadable(directory, error) from error
    return {path.relative_to(directory).as_posix() for path in files}


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> LoadError:
    return LoadError(f"{path} cannot be read: {error.strerror}", _DATA_LOSS)
