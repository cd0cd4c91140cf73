"""Versions change completely or not at all, even if the process is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.registry import fake_versions
from tests.trainer.registry.fake_versions import publish, served_versions
from tests.trainer.registry.kill_at_every_step import COMMANDS
from tools.processes import ROOT
from trainer.errors import StoreError, StoreLocked
from trainer.registry import promotion
from trainer.registry.promotion import collect_garbage
from trainer.registry.store import Store


def _staging(store: Store) -> list[Path]:
    return list(store.models_dir.glob(".staging*"))


def test_all_served_files_follow_one_link(store: Store) -> None:
    assert (publish(store), publish(store)) == (1, 2)
    assert served_versions(store.models_dir) == {"2"}
    assert promotion.rollback(store) == (1, 2)
    assert served_versions(store.models_dir) == {"1"}
    links = {
        path.name: str(path.readlink()) for path in store.models_dir.iterdir() if path.is_symlink()
    }
    assert links.pop("current") == "versions/1"
    assert set(links) == {
        *("retrieval", "retrieval_exact", "reports", "items.csv", "seen.sqlite", "models.config")
    }
    assert links == {name: f"current/{name}" for name in links}, "relative, so a mount can move"
    assert not _staging(store)


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_command_leaves_the_old_or_the_new_version(tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.trainer.registry.kill_at_every_step"),
            *(str(tmp_path), command),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8, "not all changes were counted"


def test_numbers_are_unique_and_never_reused(store: Store) -> None:
    with store.staging() as one, store.staging() as other:
        assert (one.version, other.version) == (1, 2)
        assert publish(store) == 3
    assert not _staging(store)
    assert publish(store) == 4
    promotion.rollback(store)
    assert collect_garbage(store, 1) == []
    assert publish(store) == 5


def test_staging_of_a_killed_run_is_removed_and_of_a_running_one_kept(store: Store) -> None:
    with store.staging() as running:
        with store.lock():
            assert running.directory.is_dir()
        killed = store.models_dir / ".staging-9"
        (killed / "retrieval").mkdir(parents=True)
        with store.lock():
            assert not killed.exists()
            assert running.directory.is_dir()


def test_exception_while_staging_leaves_the_served_version(store: Store) -> None:
    publish(store)

    def fail() -> None:
        with store.staging() as staged:
            fake_versions.build(staged)
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fail()
    assert served_versions(store.models_dir) == {"1"}
    assert store.versions() == [1]
    assert not _staging(store)


def test_second_command_fails_while_the_store_is_locked(store: Store) -> None:
    publish(store)
    publish(store)
    with store.lock(), pytest.raises(StoreLocked, match="another command is changing"):
        promotion.rollback(Store(store.models_dir, lock_wait_s=0.1))
    assert served_versions(store.models_dir) == {"2"}


def test_layout_of_an_earlier_release_is_refused(store: Store) -> None:
    (store.models_dir / "retrieval" / "7").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"retrieval is not a symbolic link: .* Move it away"):
        publish(store)
    assert [path.name for path in store.models_dir.iterdir()] == ["retrieval"]


@pytest.mark.parametrize("target", ["elsewhere", "versions/latest", "versions/0"])
def test_current_that_links_elsewhere_is_an_error(store: Store, target: str) -> None:
    store.prepare()
    (store.models_dir / "current").symlink_to(target)
    with pytest.raises(StoreError, match=f"not a link to a version; it points to {target}"):
        store.current()


def test_incomplete_version_is_not_added(store: Store) -> None:
    def stage() -> None:
        with store.staging() as staged:
            fake_versions.build(staged)
            (staged.directory / "items.csv").unlink()
            fake_versions.complete(staged)

    with pytest.raises(StoreError, match=r"has no items\.csv, so the version is incomplete"):
        stage()
