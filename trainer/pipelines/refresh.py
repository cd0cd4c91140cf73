"""Publishes a version with changed items, without training."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving_contract import ITEMS_CSV, METRICS_JSON, REPORTS, SEEN_SQLITE, TOWERS
from trainer.artifact import side_files, stored_towers
from trainer.artifact.servable import left_out_notice, retrievable_items
from trainer.artifact.stored_towers import StoredTowers
from trainer.data import files
from trainer.errors import DataError
from trainer.pipelines.build import publication
from trainer.pipelines.catalogue_change import Counts, change, unknown_columns
from trainer.registry.publication import NewVersion
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
    """Publish a version with changed items, and return the number of the new version.

    Args:
        models_dir: the directory that contains the versions.
        console: shows the progress.
        items: a file with new items, and with known items that have new features. The columns are
            ``item_id``, optionally ``title``, and every feature that the model uses.
        remove: a file with the items to remove, in the column ``item_id``.
        version: the version to start from; None for the served version.

    Raises:
        DataError: a file cannot be used, no version is served, or no item would be left.
        StoreError: the version to start from does not exist, or the new version cannot be added.
        TrainerError: as in :meth:`trainer.registry.publication.Publication.publish`.
    """
    store = Store.open_existing(models_dir)
    number = store.current() if version is None else version
    if number is None:
        raise DataError(f"{models_dir} has no version to refresh; train one with `run`")
    directory = store.directory(number)
    new, counts = _changed_catalogue(directory, items, remove, console)
    retrievable = retrievable_items(new.servable)
    if notice := left_out_notice(retrievable):
        console.print(notice, soft_wrap=True)
    served = new.keep_items(retrievable)

    def write_side_files(staged: Path) -> None:
        stored_towers.save(staged / TOWERS, new)
        rows = zip(new.servable.item_ids, new.titles, strict=True)
        side_files.write_items(staged / ITEMS_CSV, rows)
        _copy_database(directory / SEEN_SQLITE, staged / SEEN_SQLITE)

    return publication(store, console).publish(
        NewVersion(
            source="refresh",
            settings=new.config,
            servable=served.servable,
            metrics=_metrics(number, directory, new, served, counts),
            write_side_files=write_side_files,
        )
    )


def _changed_catalogue(
    directory: Path, items: Path | None, remove: Path | None, console: Console
) -> tuple[StoredTowers, Counts]:
    """Load a version's catalogue, apply the changes in the files, and print what has changed."""
    old = stored_towers.load(directory / TOWERS)
    columns = [column.name for column in old.items.encoder.columns]
    updates = None if items is None else files.load_items(items, columns)
    removed = np.zeros(0, object) if remove is None else files.load_item_ids(remove)
    new, counts = change(old, updates, removed)
    changes = ", ".join(f"{count:,} {name}" for name, count in vars(counts).items())
    notices = [f"Refreshing version {directory.name}: items {changes}"]
    if updates is not None and len(updates.ids) and (unknown := unknown_columns(new, updates)):
        notices.append(f"{items}: the model knows none of the values in {', '.join(unknown)}")
    if absent := len(removed) - counts.removed:
        notices.append(f"{remove}: {absent:,} of the items are not in the catalogue")
    for notice in notices:
        console.print(notice, markup=False, soft_wrap=True)
    return new, counts


def _metrics(
    number: int, directory: Path, new: StoredTowers, served: StoredTowers, counts: Counts
) -> dict[str, Any]:
    """Return the metrics of version ``number``, with updated entries for the refreshed version."""
    metrics_json = directory / REPORTS / str(number) / METRICS_JSON
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


def _copy_database(source: Path, copy: Path) -> None:
    """Copy an SQLite database consistently, even while another process writes to the database."""
    address = f"{source.resolve().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(address, uri=True)) as old,
            closing(sqlite3.connect(copy)) as new,
        ):
            old.backup(new)
    except sqlite3.Error as error:
        raise DataError(f"{source} cannot be copied: {error}") from error
