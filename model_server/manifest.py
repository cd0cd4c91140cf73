"""Whether a version's files are those that the trainer published."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from model_server.errors import LoadError
from serving_contract import ASSETS_EXTRA, MANIFEST_FILES, MANIFEST_JSON

logger = logging.getLogger(__name__)

#: google.rpc.Code.DATA_LOSS
_DATA_LOSS = 15
_MANIFEST = f"{ASSETS_EXTRA}/{MANIFEST_JSON}"


def check(directory: Path, *, required: bool = False) -> None:
    """Compare every file of a version with the SHA-256 that its manifest has.

    A version without a manifest was made by something else than the trainer. It is let
    through with a warning, unless one is ``required``. This is against damage; who can
    write into the directory can write a manifest too.

    Raises:
        LoadError: a file was changed, is missing or was added, and which; or there is no
            manifest that lists the files.
    """
    listed = _listed(directory)
    if listed is None:
        if required:
            raise LoadError(f"{directory} has no {_MANIFEST}, and one is required", _DATA_LOSS)
        logger.warning("%s has no %s: its files are not checked", directory, _MANIFEST)
        return
    found = _found(directory)
    for name in sorted(listed.keys() | found):
        if name == _MANIFEST:
            continue
        if name not in listed:
            raise LoadError(f"{directory / name} is not in {_MANIFEST}", _DATA_LOSS)
        if name not in found:
            raise LoadError(f"{directory / name} is missing", _DATA_LOSS)
        if _digest(directory / name) != listed[name]:
            raise LoadError(
                f"{directory / name} is not the file that was published: its SHA-256 differs",
                _DATA_LOSS,
            )


def _listed(directory: Path) -> Mapping[str, str] | None:
    """SHA-256 by path; None without a manifest."""
    path = directory / _MANIFEST
    try:
        files = dict(json.loads(path.read_bytes())[MANIFEST_FILES])
        if not all(isinstance(one, str) for pair in files.items() for one in pair):
            raise ValueError("names and digests are strings")
        return files
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}", _DATA_LOSS) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoadError(f"{path} does not list the files of the version", _DATA_LOSS) from error


def _found(directory: Path) -> set[str]:
    try:
        files = [path for path in directory.rglob("*") if path.is_file()]
    except OSError as error:
        raise LoadError(f"{directory} cannot be read: {error.strerror}", _DATA_LOSS) from error
    return {path.relative_to(directory).as_posix() for path in files}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}", _DATA_LOSS) from error
