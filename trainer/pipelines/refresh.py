"""One refresh, from a published version to the next, without training."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving_contract import ITEMS_CSV, METRICS_JSON, REPORTS, SEEN_SQLITE, TOWERS
from trainer.artifact import side_files as companions
from trainer.artifact import stored_towers
from trainer.artifact.retrievable import left_out_notice, retrievable_items
from trainer.artifact.stored_towers import StoredTowers
from trainer.data import files
from trainer.data.types import DataError
from trainer.pipelines import build
from trainer.pipelines.catalogue_change import Counts, change, unread
from trainer.registry import publication as publishing
from trainer.registry.store import Store
from trainer.report import metrics


def refresh(
    models_dir: Path,
    console: Console,
    *,
    items: Path | None = None,
    remove: Path | None = None,
    version: int | None = None,
) -> int:
    """Publish a version with other items; its number.

    Args:
        models_dir: where versions are.
        console: for what goes on.
        items: new items, and known ones with new features: the file's columns are
            ``item_id``, optionally ``title``, and all that the model reads as features.
        remove: a file with the column ``item_id``.
        version: which one to start from; without it, the one that is served.

    Raises:
        DataError: a file cannot be used, no version is served, or nothing would be left.
        IndexTuningError: no index finds as much as it is to.
        StoreError: there is no such version, or the new one cannot be put there.
        VerificationError: the export does not answer as it must; nothing is published.
        Refused: it falls short of the gate; it is kept, and not published.
    """
    store = Store.opened(models_dir)
    number = store.current() if version is None else version
    if number is None:
        raise DataError(f"{models_dir} has no version to refresh: train one with `run`")
    before = store.existing(number)
    old = stored_towers.load(before / TOWERS)
    columns = [column.name for column in old.items.encoder.columns]
    given = None if items is None else files.load_items(items, columns)
    removed = np.zeros(0, object) if remove is None else files.load_item_ids(remove)
    new, counts = change(old, given, removed)
    _say(console, f"Refreshing version {number}", counts)
    if given is not None and len(given.ids) and (unknown := unread(new, given)):
        console.print(
            f"{items}: no value that the model knows in {', '.join(unknown)}",
            markup=False,
            soft_wrap=True,
        )
    if absent := len(removed) - counts.removed:
        console.print(
            f"{remove}: {absent:,} of the items were not there", markup=False, soft_wrap=True
        )
    shown = retrievable_items(new.servable)
    if notice := left_out_notice(shown):
        console.print(notice, soft_wrap=True)
    served = new.keep_items(shown)
    measures = _measures(number, before, new, served, counts)
    with store.staging() as staged:
        indexes = build.build(
            served.servable,
            staged.directory,
            new.config.index,
            {**measures, "version": staged.version},
            console.print,
        )
        stored_towers.save(staged.directory / TOWERS, new)
        companions.write_items(
            staged.directory / ITEMS_CSV, zip(new.servable.item_ids, new.titles, strict=True)
        )
        _copy_seen(before / SEEN_SQLITE, staged.directory / SEEN_SQLITE)
        outcome = publishing.publish(
            store,
            staged,
            served.servable,
            {**measures, "index": indexes},
            new.config,
            console,
            source="refresh",
            rows=None,
        )
    publishing.conclude(outcome, models_dir, console)
    return staged.version


def _measures(
    number: int, before: Path, new: StoredTowers, served: StoredTowers, counts: Counts
) -> dict[str, Any]:
    """metrics.json but for the index: of the version before, marked, with what is other now."""
    metrics_json = before / REPORTS / str(number) / METRICS_JSON
    try:
        old = json.loads(metrics_json.read_text(encoding="utf-8"))
        dataset = dict(old["dataset"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{metrics_json} cannot be read: {error}") from error
    servable = served.servable
    return {
        **old,
        "refreshed_from": number,
        "trained_version": old.get("trained_version", number),
        "refresh": vars(counts),
        "dataset": {**dataset, "items": len(new.titles)},
        "similar_items": metrics.similar_items(
            servable.item_queries,
            servable.candidate_vectors,
            servable.popularity,
            servable.item_ids,
            served.titles,
        ),
        "versions": metrics.versions(),
    }


def _copy_seen(path: Path, copy: Path) -> None:
    """As it is at one moment, whoever writes to it."""
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(address, uri=True)) as seen,
            closing(sqlite3.connect(copy)) as new,
        ):
            seen.backup(new)
    except sqlite3.Error as error:
        raise DataError(f"{path}: {error}") from error


def _say(console: Console, what: str, counts: Counts) -> None:
    changed = ", ".join(f"{count:,} {done}" for done, count in vars(counts).items())
    console.print(f"{what}: items {changed}", markup=False, soft_wrap=True)
