"""A version whose files are not those of its manifest is not served; the old one is."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from model_server import manifest
from model_server.errors import LoadError
from model_server.server import StartError
from tests.model_server.conftest import Serve, Stubs, greeting, save_version, states, status
from tools.waiting import until
from trainer.registry import disk

VARIABLES = "variables/variables.data-00000-of-00001"
MANIFEST = "assets.extra/manifest.json"


def _seal(version: Path) -> None:
    """As the trainer does."""
    listed = disk.checksums(version)
    (version / MANIFEST).write_text(json.dumps({"files": listed}))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a bit": (lambda version: _flip(version / VARIABLES), f"{VARIABLES} is not the file"),
    "the graph cut": (
        lambda version: (version / "saved_model.pb").write_bytes(
            (version / "saved_model.pb").read_bytes()[:-100]
        ),
        "saved_model.pb is not the file",
    ),
    "one missing": (
        lambda version: (version / "assets.extra/tf_serving_warmup_requests").unlink(),
        "tf_serving_warmup_requests is missing",
    ),
    "one more": (
        lambda version: (version / "assets.extra/more").write_text("x"),
        f"more is not in {MANIFEST}",
    ),
    "no list": (lambda version: (version / MANIFEST).write_text("{}"), "does not list the files"),
    "nested": (
        lambda version: (version / MANIFEST).write_text("[" * 100_000),
        "does not list the files",
    ),
    "no texts": (
        lambda version: (version / MANIFEST).write_text('{"files": [[1, 2]]}'),
        "does not list the files",
    ),
    "no JSON": (lambda version: (version / MANIFEST).write_text("{"), "does not list the files"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_version_is_not_served(damage: str, tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ", change=_seal)
    stubs, _ = serve(tmp_path)
    change, said = DAMAGES[damage]

    def spoil(version: Path) -> None:
        _seal(version)
        change(version)

    save_version(tmp_path, 2, "two ", change=spoil)
    until(lambda: states(stubs).get(2) == 50)
    found = status(stubs, 2)
    assert (found.status.error_code, said in found.status.error_message) == (15, True), found
    assert str(tmp_path / "greeter" / "2") in found.status.error_message
    assert greeting(stubs) == "one Ada"
    # The next good one is served.
    save_version(tmp_path, 3, "three ", change=_seal)
    until(lambda: greeting(stubs) == "three Ada")


def test_without_a_manifest_it_is_served_with_a_warning(
    tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    save_version(tmp_path, 1)
    with caplog.at_level(logging.WARNING, "model_server"):
        stubs, _ = serve(tmp_path)
    assert greeting(stubs) == "Hello Ada"
    assert [one.message for one in caplog.records] == [
        f"{tmp_path / 'greeter' / '1'} has no {MANIFEST}: its files are not checked"
    ]


def test_a_manifest_can_be_required(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1)
    with pytest.raises(StartError, match="json, and one is required"):
        serve(tmp_path, require_manifest=True)
    _seal(tmp_path / "greeter" / "1")
    stubs: Stubs = serve(tmp_path, require_manifest=True)[0]
    assert greeting(stubs) == "Hello Ada"


def test_what_the_trainer_publishes_is_let_through(models_dir: Path) -> None:
    for name in ("retrieval", "retrieval_exact"):
        manifest.check(models_dir / name / "1", required=True)


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    save_version(tmp_path, 1, change=_seal)
    version = tmp_path / "greeter" / "1"
    (version / VARIABLES).unlink()
    (version / VARIABLES).symlink_to("nowhere")
    with pytest.raises(LoadError, match="is missing"):
        manifest.check(version)
