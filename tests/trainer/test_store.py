"""Versions change as a whole or not at all, whatever kills the process or fills the disk."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import tensorflow as tf

from tests.conftest import ROOT
from tests.skips import not_applicable
from tests.trainer import fake_versions
from tests.trainer.fake_versions import publish, served
from trainer.artifact import side_files as companions
from trainer.cli import main as cli
from trainer.errors import DiskFull, Locked, Refused, StoreError
from trainer.registry import checksums as sealing
from trainer.registry import disk
from trainer.registry import promotion as switching
from trainer.registry import version_record as record
from trainer.registry.store import Store

SMALL_DISK_BYTES = 400_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models", lock_wait_s=0.2)


def _left_over(store: Store) -> list[Path]:
    return list(store.models_dir.glob(".staging*"))


def test_everything_of_a_version_is_served_through_one_link(store: Store) -> None:
    assert (publish(store), publish(store)) == (1, 2)
    assert served(store.models_dir) == {"2"}
    assert switching.rollback(store) == (1, 2)
    assert served(store.models_dir) == {"1"}
    links = {path.name: str(path.readlink()) for path in store.models_dir.glob("[!.]*[!s]")}
    assert links.pop("current") == "versions/1"
    assert links == {name: f"current/{name}" for name in links}, "relative: /models is a mount"
    assert not _left_over(store)


@pytest.mark.parametrize("what", ["first", "publish", "failing", "promote", "rollback", "gc"])
def test_killed_at_any_step_the_old_or_the_new_is_served(tmp_path: Path, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.killed", str(tmp_path), what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8, "the steps were not watched"


def test_numbers_are_never_shared_nor_used_again(store: Store) -> None:
    with store.staging() as one, store.staging() as other:
        assert (one.version, other.version) == (1, 2)
        assert publish(store) == 3
    assert not _left_over(store)
    assert publish(store) == 4
    switching.rollback(store)
    assert switching.collect(store, 1) == []
    assert publish(store) == 5


def test_a_living_run_is_left_alone_and_a_dead_one_removed(store: Store) -> None:
    with store.staging() as living:
        with store.lock():
            assert living.directory.is_dir()
        dead = store.models_dir / ".staging-9"
        (dead / "retrieval").mkdir(parents=True)
        with store.lock():
            assert not dead.exists()
            assert living.directory.is_dir()


def test_an_exception_leaves_what_was_served(store: Store) -> None:
    publish(store)

    def interrupted() -> None:
        with store.staging() as staged:
            fake_versions.build(staged)
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert served(store.models_dir) == {"1"}
    assert not _left_over(store)


def test_commands_exclude_one_another(store: Store) -> None:
    publish(store)
    publish(store)
    with (
        store.lock(),
        pytest.raises(Locked, match="another command is at work in"),
    ):
        switching.rollback(Store(store.models_dir, lock_wait_s=0.1))
    assert served(store.models_dir) == {"2"}


def test_rollback_goes_further_back_and_never_to_what_was_rolled_back(store: Store) -> None:
    for _ in range(3):
        publish(store)
    publish(store, passed=False)
    publish(store)
    assert switching.rollback(store) == (3, 5)
    assert switching.rollback(store) == (2, 3)
    assert switching.rollback(store, to=5) == (5, 2)
    with pytest.raises(StoreError, match="4 was never served"):
        switching.rollback(store, to=4)
    with pytest.raises(StoreError, match="5 is served already"):
        switching.rollback(store, to=5)
    with pytest.raises(StoreError, match=r"no version 9 in .*; there is: 1, 2, 3, 4, 5"):
        switching.rollback(store, to=9)
    # What is gone is passed over.
    shutil.rmtree(store.directory(3))
    assert switching.rollback(store) == (2, 5)
    assert switching.rollback(store) == (1, 2)
    with pytest.raises(StoreError, match="no version was served before version 1"):
        switching.rollback(store)
    assert served(store.models_dir) == {"1"}


def test_a_version_that_failed_its_gate_is_kept_and_needs_a_reason(store: Store) -> None:
    publish(store)
    assert publish(store, passed=False) == 2
    assert served(store.models_dir) == {"1"}
    with pytest.raises(Refused, match="as good as it was meant to be"):
        switching.promote(store, 2)
    assert served(store.models_dir) == {"1"}
    switching.promote(store, 2, "the drop is a holiday")
    assert served(store.models_dir) == {"2"}
    kept = record.read(store.directory(2))
    assert kept.gate == "overridden"
    assert [one.reason for one in kept.promotions] == ["the drop is a holiday"]
    assert publish(store, passed=False, override="urgent") == 3
    assert served(store.models_dir) == {"3"}
    assert record.read(store.directory(3)).promotions[0].reason == "urgent"


def test_what_was_changed_is_not_promoted(store: Store) -> None:
    publish(store)
    publish(store)
    (store.directory(1) / "retrieval" / "1" / "saved_model.pb").write_text("x")
    with pytest.raises(StoreError, match=r"retrieval/1/saved_model.pb is not the file that was"):
        switching.promote(store, 1)
    (store.directory(1) / "seen.sqlite").unlink()
    with pytest.raises(StoreError, match=r"seen.sqlite cannot be read"):
        switching.promote(store, 1)
    assert served(store.models_dir) == {"2"}


def test_an_erased_person_does_not_make_a_version_another(store: Store) -> None:
    publish(store)
    publish(store)
    seen = store.directory(1) / "seen.sqlite"
    with closing(sqlite3.connect(seen)) as database, database:
        database.execute("DELETE FROM seen")
    switching.promote(store, 1)
    assert store.current() == 1
    data = bytearray(seen.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    seen.write_bytes(data)
    with pytest.raises(StoreError, match=r"seen.sqlite (cannot be read|is damaged)"):
        sealing.check(store.directory(1), record.read(store.directory(1)))


def test_a_model_with_a_file_more_is_not_promoted(store: Store) -> None:
    publish(store)
    publish(store)
    more = store.directory(1) / "retrieval" / "1" / "variables"
    more.mkdir()
    (more / "variables.index").write_text("")
    with pytest.raises(StoreError, match=r"variables\.index is not one of the files that were"):
        switching.promote(store, 1)


def test_gc_keeps_the_newest_the_served_and_the_one_to_go_back_to(store: Store) -> None:
    for _ in range(6):
        publish(store)
    switching.rollback(store, to=3)
    assert switching.collect(store, 2) == [1, 4]
    assert store.versions() == [2, 3, 5, 6]
    assert not _left_over(store)
    assert switching.rollback(store) == (2, 3)


def test_the_layout_of_an_earlier_release_is_refused(store: Store) -> None:
    (store.models_dir / "retrieval" / "7").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"retrieval is not a link: .* Move it away"):
        publish(store)
    assert [path.name for path in store.models_dir.iterdir()] == ["retrieval"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of ``SMALL_DISK_BYTES``."""
    directory = tmp_path / "small"
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(directory)]
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", *options], capture_output=True, check=False).returncode
    ):
        raise not_applicable("permission to mount a file system")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def _fill_by_hand(directory: Path) -> None:
    (directory / "retrieval").write_bytes(bytes(SMALL_DISK_BYTES * 2))


def _fill_by_tensorflow(directory: Path) -> None:
    module = tf.Module()
    module.variable = tf.Variable(tf.zeros(SMALL_DISK_BYTES))
    tf.saved_model.save(module, str(directory / "retrieval"))


def _fill_by_sqlite(directory: Path) -> None:
    companions.write_seen(directory / "seen", ((f"{n}" * 50, "item") for n in range(9999)))


@pytest.mark.parametrize("fill", [_fill_by_hand, _fill_by_tensorflow, _fill_by_sqlite])
def test_a_full_disk_leaves_the_old_version_and_one_clear_error(
    small_disk: Path, fill: Callable[[Path], None]
) -> None:
    store = Store(small_disk)
    publish(store)

    def overfill() -> None:
        with store.staging() as staged:
            fill(staged.directory)

    with pytest.raises(DiskFull, match=f"^no space left in {small_disk}.*gc --models-dir"):
        overfill()
    assert served(small_disk) == {"1"}
    assert not _left_over(store)
    assert publish(store) == 2


def test_every_command_says_that_the_disk_is_full(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(small_disk)
    for _ in range(4):
        publish(store)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(SMALL_DISK_BYTES))
    assert cli.main(["rollback", "--models-dir", str(small_disk)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no space left in")
    assert len(error.splitlines()) == 1
    assert served(small_disk) == {"4"}
    # What it advises needs no room.
    assert cli.main(["gc", "--models-dir", str(small_disk), "--keep", "1"]) == 0
    assert cli.main(["rollback", "--models-dir", str(small_disk)]) == 0
    assert served(small_disk) == {"3"}


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk.reported(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_the_commands(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for passed in (True, True, False):
        publish(store, passed=passed)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments, "--models-dir", str(store.models_dir)])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, table, _ = run("versions")
    assert code == 0
    rows = [line.split() for line in table.splitlines()]
    assert rows[1][:5] == ["1", "2026-01-02", "03:04", "run", "rollback"]
    assert rows[2][4:7] == ["served", "passed", "0.5000"]
    assert rows[3][4] == "failed"
    assert '"current": true' in run("versions", "--json")[1]
    assert run("promote", "3")[::2] == (
        1,
        "error: version 3 did not pass its gate: as good as it was meant to be. "
        'With --reason "TEXT" it is published all the same\n',
    )
    assert run("promote", "3", "--reason", "so")[1] == "Version 3 is served instead of 2\n"
    assert run("rollback")[1] == "Version 2 is served instead of 3\n"
    assert run("verify", "--files-only")[1] == "Version 2: 8 files as published\n"
    (store.directory(3) / "retrieval" / "3" / "saved_model.pb").write_text("4")
    code, _, said = run("verify", "3", "--files-only")
    assert code == 1
    assert "retrieval/3/saved_model.pb is not the file that was published" in said
    listed = (store.directory(3) / "version.json").read_text()
    (store.directory(3) / "version.json").write_text("[" * 100_000)
    assert "version.json is not the record of a version" in run("verify", "3", "--files-only")[2]
    (store.directory(3) / "version.json").write_text(listed)
    assert run("gc", "--keep", "1")[1] == "Removed: none. There is: 1, 2, 3\n"
    assert run("rollback", "--to", "7")[2].startswith("error: no version 7 in")
    absent = str(store.models_dir / "absent")
    assert cli.main(["versions", "--models-dir", absent]) == 1
    assert "no such directory" in capsys.readouterr().err
