"""Versions of a few small files, published as real ones are. Imports nothing slow."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from serving_contract import SEEN_SCHEMA
from trainer.registry import checksums as sealing
from trainer.registry import disk
from trainer.registry import promotion as switching
from trainer.registry.store import PUBLIC, Staged, Store
from trainer.registry.version_record import Check, Record

MODELS = ("retrieval", "retrieval_exact")


def publish(store: Store, *, passed: bool = True, override: str | None = None) -> int:
    """A version whose every file holds its number; the number."""
    with store.staging() as staged:
        build(staged)
        sealing.arrange(staged)
        record = Record(
            version=staged.version,
            created="2026-01-02T03:04:05+00:00",
            source="run",
            dataset="fake",
            items=2,
            unseen_top_100=0.5,
            index_recall_at_100=1.0,
            checks={"quality": Check(passed, "as good as it was meant to be")},
            test_rows=None,
            files=sealing.digests(staged),
        )
        disk.sync_tree(staged.directory)
        switching.admit(store, staged, record, store.current(), override)
    return staged.version


def build(staged: Staged) -> None:
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


def served(models_dir: Path) -> set[str]:
    """What every part that is served says its version is, read as servers read it."""
    found = set()
    for name in PUBLIC:
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
