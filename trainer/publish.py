"""Puts a version where the model server looks: by one rename, complete or not at all."""

import csv
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serving_contract import (
    ITEMS_CSV,
    MODEL_NAMES,
    MODELS_CONFIG,
    REPORTS,
    RETRIEVAL,
    RETRIEVAL_EXACT,
    SEEN_SCHEMA,
    SEEN_SQLITE,
    TOWERS,
)
from trainer.data.types import Dataset


@contextmanager
def staging(models_dir: Path) -> Iterator[tuple[int, Path]]:
    """The next version's number and a directory to build it in.

    Beside the models, so that the rename stays on one file system, under a name that
    no model server takes for a version. It is gone afterwards, whatever happens.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    version = max(_versions(models_dir), default=0) + 1
    directory = models_dir / f".staging-{version}-{os.getpid()}"
    directory.mkdir()
    try:
        yield version, directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_companions(directory: Path, dataset: Dataset) -> None:
    """items.csv and seen.sqlite, from everything the data says that users have seen.

    Test rows included.
    """
    rows = dataset.interactions
    write_items(directory / ITEMS_CSV, zip(dataset.item_ids, dataset.titles, strict=True))
    write_seen(
        directory / SEEN_SQLITE,
        zip(dataset.user_ids[rows.users], dataset.item_ids[rows.items], strict=True),
    )


def write_items(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Item ids and titles."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title"])
        writer.writerows(rows)


def write_seen(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """User ids and item ids; a pair that comes twice counts once."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute(SEEN_SCHEMA)
            connection.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", pairs)
    finally:
        connection.close()


def publish(models_dir: Path, version: int, directory: Path) -> None:
    """Move what ``directory`` holds into place.

    That is ``reports``, ``towers``, one folder per model, items.csv and seen.sqlite.

    The model that the query service asks by default comes last, so that by the time it
    is seen everything that belongs to it is there.
    """
    # No model server takes it for a model there.
    (directory / TOWERS).rename(directory / REPORTS / TOWERS)
    (directory / MODELS_CONFIG).write_text(models_config(), encoding="utf-8")
    for name in (REPORTS, RETRIEVAL_EXACT, RETRIEVAL):
        (models_dir / name).mkdir(exist_ok=True)
    (directory / REPORTS).rename(models_dir / REPORTS / str(version))
    for file in (MODELS_CONFIG, ITEMS_CSV, SEEN_SQLITE):
        (directory / file).replace(models_dir / file)
    for name in (RETRIEVAL_EXACT, RETRIEVAL):
        (directory / name).rename(models_dir / name / str(version))


def models_config() -> str:
    """TensorFlow Serving's ``--model_config_file`` for both models, under /models."""
    entries = "".join(
        f'  config {{\n    name: "{name}"\n    base_path: "/models/{name}"\n'
        f'    model_platform: "tensorflow"\n  }}\n'
        for name in MODEL_NAMES
    )
    return f"model_config_list {{\n{entries}}}\n"


def _versions(models_dir: Path) -> list[int]:
    return [
        int(path.name)
        for name in (*MODEL_NAMES, REPORTS)
        for path in (models_dir / name).glob("*")
        if path.name.isascii() and path.name.isdigit()
    ]
