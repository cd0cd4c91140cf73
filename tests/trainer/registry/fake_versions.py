"""Publishes tiny fake versions with the registry's own code. Imports nothing slow."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from serving_contract import SEEN_SCHEMA
from trainer.registry import checksums, disk, layout, promotion
from trainer.registry.store import SERVED_NAMES, StagedVersion, Store
from trainer.registry.version_record import CheckResult, VersionRecord

MODELS = ("retrieval", "retrieval_exact")
#: The number of files of a fake version, ``version.json`` excepted.
FILES = 8


def publish(store: Store, *, passed: bool = True, override: str | None = None) -> int:
    """Publish a version whose every file contains its number; return the number."""
    with store.staging() as staged:
        build(staged)
        record = complete(staged, passed=passed)
        disk.sync_tree(staged.directory)
        promotion.add(store, staged, record, served=store.current(), override=override)
    return staged.version


def complete(staged: StagedVersion, *, passed: bool = True, items: int = 2) -> VersionRecord:
    """Arrange a staged version's files, and return a record for it."""
    layout.arrange(staged)
    return VersionRecord(
        version=staged.version,
        created="2026-01-02T03:04:05+00:00",
        source="run",
        dataset="fake",
        items=items,
        unseen_top_100=0.5,
        index_recall_at_100=1.0,
        checks={"quality": CheckResult(passed, "a made-up quality check")},
        test_rows=None,
        files=checksums.compute(staged),
    )


def build(staged: StagedVersion) -> None:
    """Write all the files that a pipeline writes into a staged version."""
    text = str(staged.version)
    for name in MODELS:
        extra = staged.directory / name / "assets.extra"
        extra.mkdir(parents=True)
        (staged.directory / name / "saved_model.pb").write_text(text)
        (extra / "manifest.json").write_text(json.dumps({"version": staged.version}))
    (staged.directory / "reports").mkdir()
    (staged.directory / "reports" / "metrics.json").write_text(text)
    (staged.directory / "items.csv").write_text(text)
    with closing(sqlite3.connect(staged.directory / "seen.sqlite")) as seen, seen:
        seen.execute(SEEN_SCHEMA)
        seen.execute("INSERT INTO seen VALUES (?, 'i')", (text,))


def served_versions(models_dir: Path) -> set[str]:
    """Return the versions that the served files say they are, read as servers read them.

    A missing file counts as ``""``.
    """
    found = set()
    for name in SERVED_NAMES:
        path = models_dir / name
        if name == "models.config":
            found |= {path.parent.joinpath("current").readlink().name} if path.is_file() else {""}
        elif name in (*MODELS, "reports"):
            numbers = [one.name for one in path.iterdir()] if path.is_dir() else [""]
            for number in numbers:
                file = "metrics.json" if name == "reports" else "saved_model.pb"
                found |= {number, (path / number / file).read_text()} if number else {""}
        elif not path.is_file():
            found.add("")
        elif name == "seen.sqlite":
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as seen:
                found |= {user for (user,) in seen.execute("SELECT user_id FROM seen")}
        else:
            found.add(path.read_text())
    return found
