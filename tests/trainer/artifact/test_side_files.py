"""The files beside the models can be read back."""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from serving_contract import SEEN_QUERY
from trainer.artifact import side_files
from trainer.data.types import Dataset, Interactions

HOSTILE_IDS = ['quote"', "comma,", "line\nbreak", "ä"]


def _seen_items(path: Path, user: str) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {item for (item,) in database.execute(SEEN_QUERY, [user])}


def test_item_ids_with_special_characters_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    side_files.write_items(path, [(item, item) for item in HOSTILE_IDS])
    assert list(side_files.read_item_ids(path)) == HOSTILE_IDS


def test_files_of_vectors_have_ids_as_titles_and_nothing_is_seen(tmp_path: Path) -> None:
    ids = np.array([item.encode() for item in HOSTILE_IDS])
    side_files.write_ids(tmp_path, ids)
    with (tmp_path / "items.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["item_id", "title"], *([i, i] for i in HOSTILE_IDS)]
    assert _seen_items(tmp_path / "seen.sqlite", "u") == set()


def test_all_interactions_of_a_dataset_are_seen_once(tmp_path: Path) -> None:
    dataset = Dataset(
        name="small",
        user_ids=np.array(["u", "v"], object),
        item_ids=np.array(["a", "b"], object),
        titles=np.array(["A", "B"], object),
        interactions=Interactions(np.array([0, 0, 1, 0]), np.array([0, 1, 1, 0])),
    )
    side_files.write(tmp_path, dataset)
    assert _seen_items(tmp_path / "seen.sqlite", "u") == {"a", "b"}
    assert _seen_items(tmp_path / "seen.sqlite", "v") == {"b"}
    assert list(side_files.read_item_ids(tmp_path / "items.csv")) == ["a", "b"]
