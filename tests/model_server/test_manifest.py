"""If the files of a version differ from its manifest, the previous version stays in service."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from google.rpc import code_pb2

from model_server import manifest
from model_server.errors import LoadError
from model_server.manager import State
from rpc.errors import StartError
from tests.model_server.conftest import Serve, Stubs, greeting, save_version, states, status
from tools.waiting import until
from trainer.registry import disk

VARIABLES = "variables/variables.data-00000-of-00001"
MANIFEST = "assets.extra/manifest.json"


def _write_manifest(version: Path) -> None:
    """Write the checksums of all files, as the trainer does."""
    listed = {
        path.relative_to(version).as_posix(): disk.checksum(path) for path in disk.files(version)
    }
    (version / MANIFEST).write_text(json.dumps({"files": listed}))


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "flipped bit": (
        lambda version: _flip_a_bit(version / VARIABLES),
        f"{VARIABLES} is not the file",
    ),
    "truncated graph": (
        lambda version: (version / "saved_model.pb").write_bytes(
            (version / "saved_model.pb").read_bytes()[:-100]
        ),
        "saved_model.pb is not the file",
    ),
    "missing file": (
        lambda version: (version / "assets.extra/tf_serving_warmup_requests").unlink(),
        "tf_serving_warmup_requests is missing",
    ),
    "extra file": (
        lambda version: (version / "assets.extra/more").write_text("x"),
        f"more is not listed in {MANIFEST}",
    ),
    "manifest without a list": (
        lambda version: (version / MANIFEST).write_text("{}"),
        "does not list the files",
    ),
    "deeply nested manifest": (
        lambda version: (version / MANIFEST).write_text("[" * 100_000),
        "does not list the files",
    ),
    "list of numbers": (
        lambda version: (version / MANIFEST).write_text('{"files": [[1, 2]]}'),
        "does not list the files",
    ),
    "manifest is not JSON": (
        lambda version: (version / MANIFEST).write_text("{"),
        "does not list the files",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_version_is_not_served(damage: str, tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ", change=_write_manifest)
    stubs, _ = serve(tmp_path)
    change, message = DAMAGES[damage]

    def damage_version(version: Path) -> None:
        _write_manifest(version)
        change(version)

    save_version(tmp_path, 2, "two ", change=damage_version)
    until(lambda: states(stubs).get(2) == State.END)
    found = status(stubs, 2)
    assert found.status.error_code == code_pb2.DATA_LOSS
    assert message in found.status.error_message
    assert str(tmp_path / "greeter" / "2") in found.status.error_message
    assert greeting(stubs) == "one Ada"
    # The next version without damage is served.
    save_version(tmp_path, 3, "three ", change=_write_manifest)
    until(lambda: greeting(stubs) == "three Ada")


def test_version_without_a_manifest_is_served_with_a_warning(
    tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    save_version(tmp_path, 1)
    with caplog.at_level(logging.WARNING, "model_server"):
        stubs, _ = serve(tmp_path)
    assert greeting(stubs) == "Hello Ada"
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'greeter' / '1'} has no {MANIFEST}, so its files are not checked"
    ]


def test_required_manifest_must_exist(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1)
    with pytest.raises(StartError, match="json, and one is required"):
        serve(tmp_path, require_manifest=True)
    _write_manifest(tmp_path / "greeter" / "1")
    stubs: Stubs = serve(tmp_path, require_manifest=True)[0]
    assert greeting(stubs) == "Hello Ada"


def test_published_versions_match_their_manifest(models_dir: Path) -> None:
    for name in ("retrieval", "retrieval_exact"):
        manifest.check(models_dir / name / "1", required=True)


def test_dangling_link_counts_as_missing_file(tmp_path: Path) -> None:
    save_version(tmp_path, 1, change=_write_manifest)
    version = tmp_path / "greeter" / "1"
    (version / VARIABLES).unlink()
    (version / VARIABLES).symlink_to("nowhere")
    with pytest.raises(LoadError, match="is missing"):
        manifest.check(version)
