"""Checksums cover every file, and find each that is missing, damaged, changed or added."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.registry.fake_versions import FILES, MODELS, publish
from trainer.errors import StoreError
from trainer.registry import checksums
from trainer.registry.store import Store
from trainer.registry.version_record import VersionRecord


def _verify(directory: Path) -> int:
    return checksums.verify(directory, VersionRecord.read(directory))


def test_every_file_is_checked(store: Store) -> None:
    publish(store)
    directory = store.directory(1)
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert _verify(directory) == len(files) - 1 == FILES, "all but version.json"


def test_models_list_their_files_in_the_manifest(models_dir: Path) -> None:
    for model in MODELS:
        version = models_dir / model / "1"
        files = {
            path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()
        }
        manifest = json.loads((version / "assets.extra" / "manifest.json").read_text())
        assert set(manifest["files"]) == files - {"assets.extra/manifest.json"}
        assert {"saved_model.pb", "variables/variables.index"} <= set(manifest["files"])


def _damage_database(directory: Path) -> None:
    seen = directory / "seen.sqlite"
    data = bytearray(seen.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    seen.write_bytes(data)


def _add_file(directory: Path) -> None:
    (directory / "retrieval" / "1" / "variables").mkdir()
    (directory / "retrieval" / "1" / "variables" / "variables.index").write_text("")


def _unlist_manifest(directory: Path) -> None:
    record = json.loads((directory / "version.json").read_text())
    del record["files"]["retrieval/1/assets.extra/manifest.json"]
    (directory / "version.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "items.csv").write_text("x"), r"items\.csv is not the file that was"),
        (lambda path: (path / "items.csv").unlink(), r"items\.csv cannot be read: No such file"),
        (
            lambda path: (path / "retrieval/1/saved_model.pb").write_text("x"),
            r"retrieval/1/saved_model\.pb is not the file that was",
        ),
        (
            lambda path: (path / "retrieval/1/assets.extra/manifest.json").write_text("{}"),
            r"manifest\.json is not the file that was",
        ),
        (lambda path: (path / "seen.sqlite").unlink(), r"seen\.sqlite cannot be read"),
        (_damage_database, r"seen\.sqlite (cannot be read|is damaged)"),
        (_add_file, r"variables\.index was not published with the version"),
        (_unlist_manifest, r"manifest\.json is not listed in .*version\.json"),
    ],
)
def test_change_is_found(store: Store, change: Callable[[Path], object], message: str) -> None:
    publish(store)
    change(store.directory(1))
    with pytest.raises(StoreError, match=message):
        _verify(store.directory(1))


def test_malformed_record_is_an_error(store: Store) -> None:
    publish(store)
    for text in ("", "{}", "[" * 100_000, '{"checks": {"a": {"unknown": 1}}, "promotions": []}'):
        (store.directory(1) / "version.json").write_text(text)
        with pytest.raises(StoreError, match=r"version\.json is not the record of a version"):
            VersionRecord.read(store.directory(1))
