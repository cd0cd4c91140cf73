"""Items come, change and go without training, as if training had known them."""

import csv
import dataclasses
import io
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scann  # noqa: F401
import tensorflow as tf
from rich.console import Console

from trainer import config, report
from trainer.artifact import stored_towers
from trainer.artifact.retrievable import keep_items, retrievable_items
from trainer.artifact.servable import Servable
from trainer.artifact.stored_towers import StoredTowers
from trainer.cli.main import main
from trainer.data import files, synthetic
from trainer.data.histories import Histories
from trainer.data.types import DataError, Dataset
from trainer.model import training
from trainer.model.towers.query import QueryWeights
from trainer.pipelines.catalogue_change import Counts, change, unread
from trainer.pipelines.refresh import refresh
from trainer.pipelines.run import run

TASTES = 4
ITEMS = 80
SETTINGS = [
    *("model.embedding_dim=13", "model.new_item_scale=0.8", "model.user_id=true"),
    "model.item_id_dropout=0.5",
    *("training.epochs=12", "training.validation_share=0", "training.learning_rate=0.05"),
]


def _dataset() -> Dataset:
    """Items of four tastes and two decades; two that nobody has met, one of them unknown."""
    data = synthetic.load(users=120, items=ITEMS, interactions=3000, tastes=TASTES)
    assert data.item_features is not None
    table = pd.DataFrame(
        {
            "taste": [f"t{taste}" for taste in data.item_features["taste"]],
            "year": 1980.0 + np.arange(ITEMS) % 20,
        }
    )
    unmet = pd.DataFrame({"taste": ["t1", None], "year": [1985.0, None]})
    return replace(
        data,
        item_ids=np.append(data.item_ids, ["cold", "void"]),
        titles=np.append(data.titles, ["Çold\x00", "Void"]),
        item_features=pd.concat([table, unmet], ignore_index=True),
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return _dataset()


@pytest.fixture(scope="module")
def models_dir(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("refresh") / "models"
    settings = config.load("default", [*SETTINGS, "item_to_item.trained=true"])
    console = Console(file=io.StringIO(), width=200)
    run(data, settings, directory, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Left out of the models: 1 item without training rows" in said
    return directory


@pytest.fixture(scope="module")
def first(models_dir: Path) -> StoredTowers:
    return _stored(models_dir, 1)


def _version(models_dir: Path, version: int) -> Path:
    return models_dir / "versions" / str(version)


def _stored(models_dir: Path, version: int) -> StoredTowers:
    return stored_towers.load(_version(models_dir, version) / "towers")


def _given(**columns: Any) -> files.Items:
    table = pd.DataFrame(columns)
    ids = table.pop("item_id").to_numpy(object)
    titles = table["title"].to_numpy(object) if "title" in table else np.full(len(ids), None)
    return files.Items(ids, titles, table)


NONE = np.zeros(0, object)


def _row(one: StoredTowers, item: str) -> int:
    return one.servable.item_ids.tolist().index(item)


def _assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """To the last bit, through all that it is made of."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        np.testing.assert_array_equal(ours, theirs, where, strict=True)
    elif dataclasses.is_dataclass(ours):
        for field in dataclasses.fields(ours):
            name = field.name
            _assert_same(getattr(ours, name), getattr(theirs, name), f"{where}.{name}")
    else:
        assert ours == theirs, where


# What is stored.


@pytest.mark.parametrize(
    "settings",
    [
        ["model.user_id=false"],
        ["model.history_length=0", "model.normalize=false", "model.item_features=[]"],
        ["model.embedding_dim=1"],
    ],
    ids=["no user vectors", "no history, no features", "one dimension"],
)
@pytest.mark.parametrize("ratings", [True, False])
def test_what_is_stored_comes_back_to_the_last_bit(
    data: Dataset, settings: list[str], ratings: bool, tmp_path: Path
) -> None:
    chosen = [*SETTINGS, "training.epochs=1", *settings]
    # Those without rows are not the last ones only.
    rows = data.interactions.take(data.interactions.items != 5)
    trained = training.train(
        data, rows, config.load("default", chosen), Console(file=io.StringIO())
    )
    histories = trained.histories
    given = np.linspace(0, 1, len(histories.items), dtype=np.float32)
    servable = Servable(
        query=trained.query,
        user_ids=data.user_ids,
        histories=replace(histories, ratings=given if ratings else None),
        candidate_vectors=trained.candidate_vectors,
        item_ids=data.item_ids,
        popularity=np.arange(len(data.item_ids), dtype=np.float32),
        item_queries=trained.candidate_vectors + 1 if ratings else None,
    )
    before = StoredTowers(servable, data.titles, trained.items, trained.config)
    stored_towers.save(tmp_path / "towers", before)
    _assert_same(stored_towers.load(tmp_path / "towers"), before)


def test_what_cannot_be_read_is_named(tmp_path: Path, models_dir: Path) -> None:
    with pytest.raises(DataError, match=r"absent/towers\.json: no such file; .* trained again"):
        stored_towers.load(tmp_path / "absent")
    for name, content in (
        ("towers.json", b"{"),
        ("towers.json", b"[" * 100_000),
        ("arrays.npz", b"PK"),
        ("arrays.npz", b""),
    ):
        damaged = tmp_path / "damaged"
        damaged.mkdir(exist_ok=True)
        for path in (_version(models_dir, 1) / "towers").iterdir():
            (damaged / path.name).write_bytes(path.read_bytes())
        (damaged / name).write_bytes(content)
        with pytest.raises(DataError, match="damaged cannot be read"):
            stored_towers.load(damaged)
    (damaged / "towers.json").write_text('{"format": 0}')
    with pytest.raises(DataError, match="another release"):
        stored_towers.load(damaged)


# What vectors are made of.


@pytest.mark.parametrize("normalize", [True, False])
def test_items_are_embedded_as_training_embeds_them(data: Dataset, normalize: bool) -> None:
    settings = [*SETTINGS, "training.epochs=3", f"model.normalize={str(normalize).lower()}"]
    trained = training.train(
        data, data.interactions, config.load("default", settings), Console(file=io.StringIO())
    )
    towers = trained.items
    features = towers.encoder.encode(data.item_features)
    candidates, history = towers.embed(features)
    np.testing.assert_array_equal(candidates, trained.candidate_vectors)
    np.testing.assert_array_equal(history, trained.query.item_vectors)
    # Alone, and as one that nobody has met: what the items without training rows are.
    cold, met = len(data.item_ids) - 2, 3
    rows = np.array([-1, met, -1])
    candidates, history = towers.take(rows).embed(features[[cold, met, met]])
    assert history is not None
    assert trained.query.item_vectors is not None
    for vectors, truth in (
        (candidates, trained.candidate_vectors),
        (history, trained.query.item_vectors),
    ):
        np.testing.assert_allclose(vectors[:2], truth[[cold, met]], rtol=1e-6, atol=1e-7)
    # By hand: the sum of the features, and nothing else.
    summed = features[met] @ towers.candidate.features
    if normalize:
        summed /= np.linalg.norm(summed)
    np.testing.assert_allclose(candidates[2], 0.8 * summed[0], rtol=1e-5, atol=1e-6)
    assert towers.history is not None
    np.testing.assert_allclose(
        history[2], (features[met] @ towers.history.features)[0], rtol=1e-5, atol=1e-6
    )


# What changes, and what does not.


def test_others_stay_to_the_last_bit(first: StoredTowers) -> None:
    given = _given(item_id=["new", "i3"], taste=["t0", "t1"], year=[1990, 1981])
    after, counts = change(first, given, np.array(["i7", "i9", "absent"], object))
    assert counts == Counts(added=1, updated=1, removed=2)
    untouched = ~np.isin(first.servable.item_ids, ["i3", "i7", "i9"])
    same = ~np.isin(after.servable.item_ids, ["new", "i3"])
    _assert_same(
        after.keep_items(same).servable.candidate_vectors,
        first.keep_items(untouched).servable.candidate_vectors,
    )
    _assert_same(after.keep_items(same), first.keep_items(untouched))
    _assert_same(change(first, None, NONE)[0], first)


def test_each_item_gets_its_own(first: StoredTowers) -> None:
    """New and known ones in any order: as if each had come alone."""
    given = {"item_id": ["b", "i3", "a"], "taste": ["t0", "t1", "t2"], "year": [1990, 1981, 1999]}
    after, _ = change(first, _given(**given), NONE)
    for row, item in enumerate(given["item_id"]):
        one = {name: values[row : row + 1] for name, values in given.items()}
        alone, _ = change(first, _given(**one), NONE)
        for version in ("candidate_vectors", "item_queries"):
            np.testing.assert_allclose(
                getattr(after.servable, version)[_row(after, item)],
                getattr(alone.servable, version)[_row(alone, item)],
                rtol=1e-6,
                atol=1e-7,
            )


def test_a_new_item_is_like_one_that_training_knew_by_its_features(first: StoredTowers) -> None:
    given = _given(item_id=["twin"], taste=["t1"], year=[1985])
    after, _ = change(first, given, NONE)
    servable, (cold, twin) = after.servable, (_row(after, "cold"), _row(after, "twin"))
    assert servable.query.item_vectors is not None
    assert servable.item_queries is not None
    for values in (
        *(servable.candidate_vectors, servable.query.item_vectors, servable.item_queries),
        *(servable.query.item_log_weights, servable.popularity, after.items.trained),
    ):
        np.testing.assert_allclose(values[twin], values[cold], rtol=1e-6, atol=1e-7)
    assert not after.items.trained[twin]
    assert after.titles[twin] == "twin"


def test_a_known_item_keeps_what_its_rows_taught(first: StoredTowers) -> None:
    row = _row(first, "i3")
    given = _given(item_id=["i3"], title=["Third"], taste=["t0"], year=["1999"])
    after, counts = change(first, given, NONE)
    assert counts == Counts(updated=1)
    features = first.items.encoder.encode(given.table)
    towers = first.items
    assert towers.trained[row]
    summed = towers.candidate.ids[row] + (features @ towers.candidate.features)[0]
    np.testing.assert_allclose(
        after.servable.candidate_vectors[row], summed / np.linalg.norm(summed), rtol=1e-5, atol=1e-6
    )
    assert (after.servable.candidate_vectors[row] != first.servable.candidate_vectors[row]).any()
    assert towers.history is not None
    assert after.servable.query.item_vectors is not None
    np.testing.assert_allclose(
        after.servable.query.item_vectors[row],
        towers.history.ids[row] + (features @ towers.history.features)[0],
        rtol=1e-5,
        atol=1e-6,
    )
    assert after.titles[row] == "Third"
    for ours, theirs in (
        (after.servable.popularity, first.servable.popularity),
        (after.servable.item_queries, first.servable.item_queries),
        (after.servable.query.item_log_weights, first.servable.query.item_log_weights),
        (after.items, first.items),
    ):
        _assert_same(ours, theirs)
    # And back: nothing is lost by going there.
    assert first.servable.item_ids[row] == "i3"
    old = _dataset().item_features
    assert old is not None
    back, _ = change(after, _given(item_id=["i3"], **old.iloc[[row]].to_dict("list")), NONE)
    assert back.titles[row] == "Third"
    _assert_same(
        back.servable.candidate_vectors[row].round(5),
        first.servable.candidate_vectors[row].round(5),
    )


def test_values_that_training_never_met(first: StoredTowers) -> None:
    given = _given(item_id=["half", "none"], taste=["t9", "t9"], year=[1985, None])
    after, _ = change(first, given, NONE)
    assert unread(first, given) == ["taste"]
    assert unread(first, _given(item_id=["a"], taste=["t1"], year=["x"])) == ["year"]
    assert after.servable.item_ids[-2:].tolist() == ["half", "none"], "in the file's order"
    only_year = _given(item_id=["year"], taste=[None], year=[1985])
    np.testing.assert_array_equal(
        after.servable.candidate_vectors[_row(after, "half")],
        change(first, only_year, NONE)[0].servable.candidate_vectors[-1],
    )
    shown = retrievable_items(after.servable)
    assert after.servable.item_ids[~shown].tolist() == ["void", "none"]


def test_what_cannot_be_changed(first: StoredTowers) -> None:
    given = _given(item_id=["new", "i3"], taste=["t0", "t1"], year=[1990, 1981])
    with pytest.raises(DataError, match="item 'i3' is to be removed, and given as well"):
        change(first, given, np.array(["i4", "i3"], object))
    with pytest.raises(DataError, match="no item would be left"):
        change(first, None, first.servable.item_ids)


def _small(user_vectors: np.ndarray | None) -> Servable:
    vectors = np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    return Servable(
        query=QueryWeights(
            base=np.zeros(2, np.float32),
            item_vectors=vectors * 10,
            item_log_weights=np.arange(4, dtype=np.float32),
            age_log_weights=np.zeros(16, np.float32),
            exponent=0.0,
            history_length=5,
            user_vectors=user_vectors,
            normalize=False,
        ),
        user_ids=np.array(["u", "v", "w", "x"], object),
        # The last one has none to begin with.
        histories=Histories(np.array([0, 3, 4, 6, 6]), np.array([0, 2, 3, 2, 1, 2], np.int32)),
        candidate_vectors=vectors,
        item_ids=np.array(list("abcd"), object),
        popularity=np.array([1, 1, 3, 1], np.float32),
    )


def test_removed_items_are_gone_from_everything() -> None:
    kept = np.array([True, True, False, True])
    left = keep_items(_small(None), kept)
    assert left.item_ids.tolist() == ["a", "b", "d"]
    assert left.popularity.tolist() == [1, 1, 1]
    assert left.candidate_vectors.tolist() == [[1, 2], [3, 4], [7, 8]]
    assert left.query.item_vectors is not None
    assert left.query.item_vectors.tolist() == [[10, 20], [30, 40], [70, 80]]
    assert left.query.item_log_weights.tolist() == [0, 1, 3]
    # Of v nothing is known any more.
    assert left.user_ids.tolist() == ["u", "w", "x"]
    assert left.histories.offsets.tolist() == [0, 2, 3, 3]
    assert left.histories.items.tolist() == [0, 2, 1]
    assert left.histories.items.dtype == np.int32
    own = keep_items(_small(np.ones((4, 2), np.float32)), kept)
    assert own.user_ids.tolist() == ["u", "v", "w", "x"]


# The whole way.


def _ask(models_dir: Path, version: int, signature: str, **ids: Any) -> dict[str, Any]:
    loaded = tf.saved_model.load(
        str(_version(models_dir, version) / "retrieval_exact" / str(version))
    )
    rows = len(next(iter(ids.values())))
    given = {name: tf.constant(one, tf.string) for name, one in ids.items()}
    answer = loaded.signatures[signature](**given, k=tf.fill([rows], ITEMS + 9))
    return {name: one.numpy() for name, one in answer.items()}


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def second(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Version 1 with a twin of i3, void as another, one that says nothing, and without i5."""
    scratch = tmp_path_factory.mktemp("files")
    with sqlite3.connect(models_dir / "seen.sqlite") as seen:
        seen.execute("INSERT INTO seen VALUES ('visitor', 'i1')")
    table = _dataset().item_features
    assert table is not None
    taste, year = table.iloc[3]
    new = f"item_id,title,taste,year\n007,Twin of i3,{taste},{year}\nvoid,,{taste},{year}\n"
    new += "blank,,t9,\n"
    arguments = ["refresh", "--models-dir", str(models_dir)]
    arguments += ["--items", str(_write(scratch / "new.csv", new))]
    arguments += ["--remove", str(_write(scratch / "gone.csv", "item_id\ni5\ni5\nnever\n"))]
    assert main(arguments) == 0
    return max(int(path.name) for path in (models_dir / "versions").iterdir())


def test_nothing_is_known_of_an_item_and_it_is_retrieved_by_nobody(
    models_dir: Path, data: Dataset
) -> None:
    similar = _ask(models_dir, 1, "by_item", item_id=["void", "cold"])
    assert similar["known"].tolist() == [False, True]
    users = _ask(models_dir, 1, "by_user", user_id=[*data.user_ids[:9], "nobody"])
    assert users["known"].tolist() == [True] * 9 + [False]
    for row in users["item_id"]:
        assert len(set(row) - {b""}) == ITEMS + 1
        assert b"void" not in row
    assert (users["score"][:9] < 0).any(), "a zero vector would stand above these"


def test_a_new_item_is_asked_for_and_found(
    models_dir: Path, second: int, first: StoredTowers
) -> None:
    loaded = tf.saved_model.load(str(_version(models_dir, second) / "retrieval" / str(second)))
    asked = {"item_id": tf.constant(["007", "void"]), "k": tf.constant([10, 10])}
    similar = {name: one.numpy() for name, one in loaded.signatures["by_item"](**asked).items()}
    assert similar["known"].all()
    nearest = dict(zip(similar["item_id"][0], similar["score"][0], strict=True))
    assert next(iter(nearest)) == b"i3", "a known one with the same features"
    assert nearest[b"void"] == pytest.approx(0.8, abs=1e-5), "the other new one with them"
    assert b"007" in similar["item_id"][1]
    taste = dict(zip(first.servable.item_ids, _dataset().item_features["taste"], strict=True))  # type: ignore[index]
    taste |= {"void": taste["i3"], "007": taste["i3"]}
    near = [taste[one.decode()] for one in similar["item_id"][0]]
    assert near.count(taste["i3"]) >= 6

    history = _ask(models_dir, second, "by_history", history=[["007"], ["never"]])
    assert history["known"].tolist() == [True, False]
    after = _stored(models_dir, second)
    alone = Histories(np.array([0, 1]), np.array([_row(after, "007")], np.int32))
    after = after.keep_items(retrievable_items(after.servable))
    scores = after.servable.candidate_vectors @ after.servable.query.embed(alone)[0]
    best = -np.sort(-scores)
    np.testing.assert_allclose(history["score"][0][: len(best)], best, atol=1e-5)
    # Unknown visitors get it after all that somebody met.
    assert set(history["item_id"][1][-12:]) >= {b"007", b"void"}


def test_a_new_item_finds_its_users(models_dir: Path, second: int, data: Dataset) -> None:
    """Those of its taste get it before the others."""
    assert data.user_features is not None
    assert data.item_features is not None
    users = _ask(models_dir, second, "by_user", user_id=data.user_ids)
    rank = (users["item_id"] == b"007").argmax(axis=1)
    fond = "t" + data.user_features["taste"].astype(str) == data.item_features["taste"][3]
    assert np.mean(rank[fond]) < 0.8 * np.mean(rank[~fond])


def test_removed_items_and_those_that_say_nothing_are_unknown(
    models_dir: Path, second: int, data: Dataset
) -> None:
    similar = _ask(models_dir, second, "by_item", item_id=["i5", "blank", "i3"])
    assert similar["known"].tolist() == [False, False, True]
    users = _ask(models_dir, second, "by_user", user_id=[*data.user_ids, "nobody"])
    assert not {b"i5", b"blank"} & set(users["item_id"].ravel())
    after = _stored(models_dir, second)
    before = _stored(models_dir, 1)
    place = _row(before, "i5")
    assert (before.servable.histories.items == place).any()
    names = after.servable.item_ids[after.servable.histories.items]
    expected = before.servable.item_ids[before.servable.histories.items]
    assert names.tolist() == [name for name in expected if name != "i5"]


def test_what_a_refresh_leaves_behind(models_dir: Path, second: int) -> None:
    metrics = json.loads(
        (_version(models_dir, second) / "reports" / str(second) / "metrics.json").read_text()
    )
    old = json.loads((_version(models_dir, 1) / "reports" / "1" / "metrics.json").read_text())
    assert metrics["version"] == second
    assert metrics["refreshed_from"] == metrics["trained_version"] == 1
    assert metrics["refresh"] == {"added": 2, "updated": 1, "removed": 1}
    assert metrics["dataset"] == {**old["dataset"], "items": ITEMS + 3}
    assert metrics["test"] == old["test"]
    assert metrics["index"]["retrieval"]["recall_at_100"] == 1
    page = (_version(models_dir, second) / "reports" / str(second) / "report.html").read_text(
        encoding="utf-8"
    )
    assert page == report.html(metrics)
    assert "from version 1 without training: items 2 added, 1 updated, 1 removed" in page
    assert "without training: items" not in report.html(old)
    for model in ("retrieval", "retrieval_exact"):
        extra = models_dir / model / str(second) / "assets.extra"
        assert json.loads((extra / "manifest.json").read_text())["refreshed_from"] == 1
    with (models_dir / "items.csv").open(newline="", encoding="utf-8") as file:
        titles = {row["item_id"]: row["title"] for row in csv.DictReader(file)}
    assert len(titles) == ITEMS + 3
    assert titles["007"] == "Twin of i3"
    assert titles["void"] == "Void"
    assert "i5" not in titles
    with sqlite3.connect(models_dir / "seen.sqlite") as seen:
        assert seen.execute("SELECT item_id FROM seen WHERE user_id = 'visitor'").fetchall() == [
            ("i1",)
        ]
        assert seen.execute("SELECT count(*) FROM seen").fetchone()[0] > 2000


def test_nothing_new_changes_nothing(models_dir: Path, second: int, tmp_path: Path) -> None:
    """Of the served version, and of an older one where that is asked for."""
    nothing = _write(tmp_path / "none.csv", "item_id,taste,year\n")
    for version in (None, 1):
        number = refresh(models_dir, Console(file=io.StringIO()), items=nothing, version=version)
        assert number > second
        _assert_same(_stored(models_dir, number), _stored(models_dir, version or second))
        metrics = json.loads((models_dir / "reports" / str(number) / "metrics.json").read_text())
        assert metrics["refreshed_from"] == (version or second)
        assert metrics["trained_version"] == 1


@pytest.mark.parametrize(
    ("items", "remove", "message"),
    [
        (None, None, "refresh needs --items, --remove, or both"),
        ("item_id,year\na,1\n", None, "new.csv: no column taste; found: item_id, year"),
        ("taste,year\nt1,1\n", None, "new.csv: no column item_id"),
        ("item_id,taste,year\na,,\nb,,\na,,\n", None, "new.csv, line 4, column item_id: 'a' is"),
        ("item_id,taste,year\na,,\n,,\n", None, "new.csv, line 3, column item_id: an id is 1 to"),
        (f"item_id,taste,year\n{'é' * 129},,\n", None, "new.csv, line 2, column item_id: an id is"),
        ("item_id,taste,year\ni3,,\n", "item_id\ni3\n", "'i3' is to be removed, and given"),
        (None, "id\ni3\n", "gone.csv: no column item_id; found: id"),
        (None, 'item_id\ni3\n""\n', "gone.csv, line 3, column item_id"),
    ],
)
def test_mistakes(
    models_dir: Path,
    items: str | None,
    remove: str | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["refresh", "--models-dir", str(models_dir)]
    if items is not None:
        arguments += ["--items", str(_write(tmp_path / "new.csv", items))]
    if remove is not None:
        arguments += ["--remove", str(_write(tmp_path / "gone.csv", remove))]
    before = sorted(models_dir.rglob("*"))
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert sorted(models_dir.rglob("*")) == before


def test_versions_that_are_not_there(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(_write(tmp_path / "gone.csv", "item_id\ni3\n"))
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([str(tmp_path / "mistyped")], "mistyped: no such directory"),
        ([str(tmp_path / "empty")], "empty has no version to refresh"),
        ([str(models_dir), "--version", "77"], "no version 77 in"),
    ):
        assert main(["refresh", "--remove", gone, "--models-dir", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "mistyped").exists()
