"""A full disk leaves the served version in place and is reported as one clear error."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from tests.skips import not_applicable
from tests.trainer.registry.fake_versions import publish, served_versions
from trainer.artifact import side_files
from trainer.cli.main import main
from trainer.errors import DiskFull
from trainer.registry import disk
from trainer.registry.store import Store

DISK_BYTES = 400_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of ``DISK_BYTES`` bytes."""
    directory = tmp_path / "small"
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", *options], capture_output=True, check=False).returncode
    ):
        raise not_applicable("permission to mount a file system")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def _write_bytes(directory: Path) -> None:
    (directory / "retrieval").write_bytes(bytes(DISK_BYTES * 2))


def _save_model(directory: Path) -> None:
    module = tf.Module()
    module.variable = tf.Variable(tf.zeros(DISK_BYTES))
    tf.saved_model.save(module, str(directory / "retrieval"))


def _write_database(directory: Path) -> None:
    side_files.write_seen(directory / "seen", ((f"{n}" * 50, "item") for n in range(9999)))


@pytest.mark.parametrize("fill", [_write_bytes, _save_model, _write_database])
def test_full_disk_while_staging_leaves_the_served_version(
    small_disk: Path, fill: Callable[[Path], None]
) -> None:
    store = Store(small_disk)
    publish(store)

    def overfill() -> None:
        with store.staging() as staged:
            fill(staged.directory)

    with pytest.raises(DiskFull, match=f"^no space left in {small_disk}.*gc --models-dir"):
        overfill()
    assert served_versions(small_disk) == {"1"}
    assert not list(small_disk.glob(".staging*"))
    assert publish(store) == 2


def test_commands_report_a_full_disk_and_gc_still_works(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(small_disk)
    for _ in range(4):
        publish(store)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(DISK_BYTES))
    assert main(["rollback", "--models-dir", str(small_disk)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no space left in")
    assert len(error.splitlines()) == 1
    assert served_versions(small_disk) == {"4"}
    assert main(["gc", "--models-dir", str(small_disk), "--keep", "1"]) == 0
    assert main(["rollback", "--models-dir", str(small_disk)]) == 0
    assert served_versions(small_disk) == {"3"}


def test_other_errors_are_not_turned_into_disk_full(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk.disk_full_errors(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
