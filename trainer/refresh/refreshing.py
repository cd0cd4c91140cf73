"""One refresh, from a published version to the next, without training."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving_contract import ITEMS_CSV, REPORTS, SEEN_SQLITE, TOWERS
from trainer import catalogue, models, publish, report, verify
from trainer.data import files
from trainer.data.types import DataError
from trainer.refresh import stored, versions
from trainer.refresh.change import Counts, change, unread
from trainer.refresh.stored import Stored
from trainer.refresh.versions import Version
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
        DataError: a file cannot be used, or there is no such version, or nothing would be left.
        VerificationError: the export does not answer as it must; nothing is published.
    """
    before = versions.find(models_dir, version)
    old = stored.load(before.towers)
    columns = [column.name for column in old.items.encoder.columns]
    given = None if items is None else files.load_items(items, columns)
    removed = np.zeros(0, object) if remove is None else files.load_item_ids(remove)
    new, counts = change(old, given, removed)
    _say(console, f"Refreshing version {before.number}", counts)
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
    number = _publish(models_dir, before, new, counts, console)
    _say(console, f"Published version {number} in {models_dir}", counts)
    return number


def _publish(
    models_dir: Path, before: Version, new: Stored, counts: Counts, console: Console
) -> int:
    shown = catalogue.retrievable(new.servable)
    if notice := catalogue.left_out(shown):
        console.print(notice, soft_wrap=True)
    served = new.keep(shown)
    measures = _measures(before, new, served, counts)
    with publish.staging(models_dir) as (version, directory):
        parameters = models.export_both(
            served.servable, new.config.index, directory, {**measures, "version": version}
        )
        console.print("Verifying the exported models in a fresh process")
        measured = verify.verify(directory, served.servable)
        index = {name: measured[name] | parameters[name] for name in measured}
        report.write(directory / REPORTS, {**measures, "version": version, "index": index})
        stored.save(directory / TOWERS, new)
        publish.write_items(
            directory / ITEMS_CSV, zip(new.servable.item_ids, new.titles, strict=True)
        )
        _copy_seen(before.seen, directory / SEEN_SQLITE)
        publish.publish(models_dir, version, directory)
    return version


def _measures(before: Version, new: Stored, served: Stored, counts: Counts) -> dict[str, Any]:
    """metrics.json but for the index: of the version before, marked, with what is other now."""
    old = json.loads(before.metrics.read_text(encoding="utf-8"))
    servable = served.servable
    return {
        **old,
        "refreshed_from": before.number,
        "trained_version": old.get("trained_version", before.number),
        "refresh": vars(counts),
        "dataset": {**old["dataset"], "items": len(new.titles)},
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
