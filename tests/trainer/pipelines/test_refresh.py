"""`refresh` publishes a version with changed items, whose models answer accordingly."""

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scann  # noqa: F401  (registers the ops)
import tensorflow as tf
from rich.console import Console

from tests.trainer.pipelines.tastes import (
    ITEMS,
    assert_identical,
    load_towers,
    row_of,
    tastes_dataset,
    version_directory,
)
from trainer import report
from trainer.artifact.servable import retrievable_items
from trainer.artifact.stored_towers import StoredTowers
from trainer.cli.main import main
from trainer.data.histories import Histories
from trainer.data.types import Dataset
from trainer.pipelines.refresh import refresh


def _ask(tastes_dir: Path, version: int, signature: str, **ids: Any) -> dict[str, Any]:
    loaded = tf.saved_model.load(
        str(version_directory(tastes_dir, version) / "retrieval_exact" / str(version))
    )
    rows = len(next(iter(ids.values())))
    given = {name: tf.constant(one, tf.string) for name, one in ids.items()}
    answer = loaded.signatures[signature](**given, k=tf.fill([rows], ITEMS + 9))
    return {name: one.numpy() for name, one in answer.items()}


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def second(tastes_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A refresh that adds 007 and blank, gives 007 and void the features of i3, and removes i5.

    The model knows no value of blank's features.
    """
    scratch = tmp_path_factory.mktemp("files")
    with sqlite3.connect(tastes_dir / "seen.sqlite") as seen:
        seen.execute("INSERT INTO seen VALUES ('visitor', 'i1')")
    table = tastes_dataset().item_features
    assert table is not None
    taste, year = table.iloc[3]
    new = f"item_id,title,taste,year\n007,Twin of i3,{taste},{year}\nvoid,,{taste},{year}\n"
    new += "blank,,t9,\n"
    arguments = ["refresh", "--models-dir", str(tastes_dir)]
    arguments += ["--items", str(_write(scratch / "new.csv", new))]
    arguments += ["--remove", str(_write(scratch / "gone.csv", "item_id\ni5\ni5\nnever\n"))]
    assert main(arguments) == 0
    return max(int(path.name) for path in (tastes_dir / "versions").iterdir())


def test_item_without_interactions_and_features_is_not_retrieved(
    tastes_dir: Path, data: Dataset
) -> None:
    similar = _ask(tastes_dir, 1, "by_item", item_id=["void", "cold"])
    assert similar["known"].tolist() == [False, True]
    users = _ask(tastes_dir, 1, "by_user", user_id=[*data.user_ids[:9], "nobody"])
    assert users["known"].tolist() == [True] * 9 + [False]
    for row in users["item_id"]:
        assert len(set(row) - {b""}) == ITEMS + 1
        assert b"void" not in row
    assert (users["score"][:9] < 0).any(), "a zero vector would rank above these"


def test_new_item_is_retrieved_and_can_be_queried(
    tastes_dir: Path, second: int, first: StoredTowers
) -> None:
    loaded = tf.saved_model.load(
        str(version_directory(tastes_dir, second) / "retrieval" / str(second))
    )
    asked = {"item_id": tf.constant(["007", "void"]), "k": tf.constant([10, 10])}
    similar = {name: one.numpy() for name, one in loaded.signatures["by_item"](**asked).items()}
    assert similar["known"].all()
    nearest = dict(zip(similar["item_id"][0], similar["score"][0], strict=True))
    assert next(iter(nearest)) == b"i3", "a known item with the same features"
    assert nearest[b"void"] == pytest.approx(0.8, abs=1e-5), "the other new item with them"
    assert b"007" in similar["item_id"][1]
    taste = dict(zip(first.servable.item_ids, tastes_dataset().item_features["taste"], strict=True))  # type: ignore[index]
    taste |= {"void": taste["i3"], "007": taste["i3"]}
    near = [taste[one.decode()] for one in similar["item_id"][0]]
    assert near.count(taste["i3"]) >= 6

    history = _ask(tastes_dir, second, "by_history", history=[["007"], ["never"]])
    assert history["known"].tolist() == [True, False]
    after = load_towers(tastes_dir, second)
    alone = Histories(np.array([0, 1]), np.array([row_of(after, "007")], np.int32))
    after = after.keep_items(retrievable_items(after.servable))
    scores = after.servable.candidate_vectors @ after.servable.query.embed(alone)[0]
    best = -np.sort(-scores)
    np.testing.assert_allclose(history["score"][0][: len(best)], best, atol=1e-5)
    # Unknown users get it after all items with interactions.
    assert set(history["item_id"][1][-12:]) >= {b"007", b"void"}


def test_new_item_ranks_higher_for_users_of_its_taste(
    tastes_dir: Path, second: int, data: Dataset
) -> None:
    assert data.user_features is not None
    assert data.item_features is not None
    users = _ask(tastes_dir, second, "by_user", user_id=data.user_ids)
    rank = (users["item_id"] == b"007").argmax(axis=1)
    of_taste = "t" + data.user_features["taste"].astype(str) == data.item_features["taste"][3]
    assert np.mean(rank[of_taste]) < 0.8 * np.mean(rank[~of_taste])


def test_removed_items_and_items_without_known_features_are_unknown(
    tastes_dir: Path, second: int, data: Dataset
) -> None:
    similar = _ask(tastes_dir, second, "by_item", item_id=["i5", "blank", "i3"])
    assert similar["known"].tolist() == [False, False, True]
    users = _ask(tastes_dir, second, "by_user", user_id=[*data.user_ids, "nobody"])
    assert not {b"i5", b"blank"} & set(users["item_id"].ravel())
    after = load_towers(tastes_dir, second)
    before = load_towers(tastes_dir, 1)
    place = row_of(before, "i5")
    assert (before.servable.histories.items == place).any()
    names = after.servable.item_ids[after.servable.histories.items]
    expected = before.servable.item_ids[before.servable.histories.items]
    assert names.tolist() == [name for name in expected if name != "i5"]


def test_refreshed_version_has_updated_metrics_titles_and_seen_items(
    tastes_dir: Path, second: int
) -> None:
    metrics = json.loads(
        (
            version_directory(tastes_dir, second) / "reports" / str(second) / "metrics.json"
        ).read_text()
    )
    old = json.loads(
        (version_directory(tastes_dir, 1) / "reports" / "1" / "metrics.json").read_text()
    )
    assert metrics["version"] == second
    assert metrics["refreshed_from"] == metrics["trained_version"] == 1
    assert metrics["refresh"] == {"added": 2, "updated": 1, "removed": 1}
    assert metrics["dataset"] == {**old["dataset"], "items": ITEMS + 3}
    assert metrics["test"] == old["test"]
    assert metrics["index"]["retrieval"]["recall_at_100"] == 1
    page = (
        version_directory(tastes_dir, second) / "reports" / str(second) / "report.html"
    ).read_text(encoding="utf-8")
    assert page == report.html(metrics)
    assert "from version 1 without training: items 2 added, 1 updated, 1 removed" in page
    assert "without training: items" not in report.html(old)
    for model in ("retrieval", "retrieval_exact"):
        extra = tastes_dir / model / str(second) / "assets.extra"
        assert json.loads((extra / "manifest.json").read_text())["refreshed_from"] == 1
    with (tastes_dir / "items.csv").open(newline="", encoding="utf-8") as file:
        titles = {row["item_id"]: row["title"] for row in csv.DictReader(file)}
    assert len(titles) == ITEMS + 3
    assert titles["007"] == "Twin of i3"
    assert titles["void"] == "Void"
    assert "i5" not in titles
    with sqlite3.connect(tastes_dir / "seen.sqlite") as seen:
        assert seen.execute("SELECT item_id FROM seen WHERE user_id = 'visitor'").fetchall() == [
            ("i1",)
        ]
        assert seen.execute("SELECT count(*) FROM seen").fetchone()[0] > 2000


def test_refresh_without_changes_keeps_the_towers_identical(
    tastes_dir: Path, second: int, tmp_path: Path
) -> None:
    nothing = _write(tmp_path / "none.csv", "item_id,taste,year\n")
    for version in (None, 1):
        number = refresh(tastes_dir, Console(file=io.StringIO()), items=nothing, version=version)
        assert number > second
        assert_identical(
            load_towers(tastes_dir, number), load_towers(tastes_dir, version or second)
        )
        metrics = json.loads((tastes_dir / "reports" / str(number) / "metrics.json").read_text())
        assert metrics["refreshed_from"] == (version or second)
        assert metrics["trained_version"] == 1


@pytest.mark.parametrize(
    ("items", "remove", "message"),
    [
        (None, None, "refresh needs --items, --remove, or both"),
        ("item_id,year\na,1\n", None, "new.csv has no column taste; the columns are item_id, year"),
        ("taste,year\nt1,1\n", None, "new.csv has no column item_id"),
        ("item_id,taste,year\na,,\nb,,\na,,\n", None, "new.csv, line 4, column item_id: "),
        ("item_id,taste,year\na,,\n,,\n", None, "new.csv, line 3, column item_id: an id must be"),
        (
            f"item_id,taste,year\n{'é' * 129},,\n",
            None,
            "new.csv, line 2, column item_id: an id must",
        ),
        ("item_id,taste,year\ni3,,\n", "item_id\ni3\n", "'i3' is among both the items to add"),
        (None, "id\ni3\n", "gone.csv has no column item_id; the columns are id"),
        (None, 'item_id\ni3\n""\n', "gone.csv, line 3, column item_id"),
    ],
)
def test_bad_input_is_an_error_and_changes_nothing(
    tastes_dir: Path,
    items: str | None,
    remove: str | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["refresh", "--models-dir", str(tastes_dir)]
    if items is not None:
        arguments += ["--items", str(_write(tmp_path / "new.csv", items))]
    if remove is not None:
        arguments += ["--remove", str(_write(tmp_path / "gone.csv", remove))]
    before = sorted(tastes_dir.rglob("*"))
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert sorted(tastes_dir.rglob("*")) == before


def test_missing_version_is_an_error(
    tastes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(_write(tmp_path / "gone.csv", "item_id\ni3\n"))
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([str(tmp_path / "mistyped")], "mistyped: no such directory"),
        ([str(tmp_path / "empty")], "empty has no version to refresh"),
        ([str(tastes_dir), "--version", "77"], "no version 77 in"),
    ):
        assert main(["refresh", "--remove", gone, "--models-dir", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "mistyped").exists()
