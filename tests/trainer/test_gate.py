"""A version is served only if it answers, finds what the exact index finds, and is as good."""

import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from trainer import config, evaluation, report
from trainer import probe as verify
from trainer.artifact import saved_model
from trainer.artifact import side_files as companions
from trainer.artifact.servable import Servable, VectorServable
from trainer.cli import main as cli
from trainer.data import split, synthetic
from trainer.data.histories import Histories
from trainer.data.types import Dataset, Interactions, Split
from trainer.errors import Refused, VerificationError
from trainer.index.exact import ExactIndex
from trainer.model.towers import pooling
from trainer.model.towers.query import QueryWeights
from trainer.probe import recheck
from trainer.probe import user_answers as answers
from trainer.registry import checksums as sealing
from trainer.registry import publication as publishing
from trainer.registry import quality_gate as quality
from trainer.registry import version_record as record
from trainer.registry.quality_gate import TestRows
from trainer.registry.store import Store
from trainer.registry.version_record import Check, Record

USERS, ITEMS = 60, 300
SETTINGS = config.Config()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def _rows(dataset: Dataset, seed: int = 42) -> TestRows:
    return TestRows(dataset, split.split(dataset.interactions, "random", 0.2, seed))


@pytest.fixture
def rows() -> TestRows:
    return _rows(synthetic.load(users=USERS, items=ITEMS, interactions=3000))


def _scores(rows: TestRows, knowing: float) -> NDArray[np.float32]:
    """Of every user and item: that share of the test rows is at the top, the rest by chance."""
    random = np.random.default_rng(1)
    scores = random.random((USERS, ITEMS)).astype(np.float32)
    test = rows.parts.test
    told = random.random(len(test)) < knowing
    scores[test.users[told], test.items[told]] += 2
    return scores


def _servable(rows: TestRows, knowing: float) -> Servable:
    """Items are unit vectors, so a user's vector is the scores of all items."""
    dataset, train = rows.dataset, rows.parts.train
    return Servable(
        query=QueryWeights(
            base=np.zeros(ITEMS, np.float32),
            item_vectors=None,
            item_log_weights=np.zeros(ITEMS, np.float32),
            age_log_weights=np.zeros(pooling.AGE_BUCKETS, np.float32),
            exponent=0.0,
            history_length=5,
            user_vectors=_scores(rows, knowing),
            normalize=False,
        ),
        user_ids=dataset.user_ids,
        histories=Histories(np.zeros(USERS + 1, np.int64), np.zeros(0, np.int32)),
        candidate_vectors=np.eye(ITEMS, dtype=np.float32),
        item_ids=dataset.item_ids,
        popularity=np.bincount(train.items, minlength=ITEMS).astype(np.float32),
    )


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is not what is tested here."""
    monkeypatch.setattr(report, "write", lambda directory, _metrics: directory.mkdir())


@dataclass(frozen=True)
class _Published:
    outcome: publishing.Outcome
    version: int


def _publish(
    store: Store,
    rows: TestRows,
    knowing: float = 1.0,
    *,
    compared: TestRows | None = None,
    settings: config.Config = SETTINGS,
    override: str | None = None,
    spoil: Any = None,
) -> _Published:
    servable = _servable(rows, knowing)
    with store.staging() as staged:
        for name in ("retrieval", "retrieval_exact"):
            index = ExactIndex(servable.candidate_vectors)
            saved_model.save(servable, index, staged.directory / name, name, {})
        companions.write(staged.directory, rows.dataset)
        if spoil:
            spoil(staged.directory)
        outcome = publishing.publish(
            store,
            staged,
            servable,
            {
                "dataset": {"name": "planted", "items": ITEMS},
                "index": {name: {"kind": "exact"} for name in ("retrieval", "retrieval_exact")},
            },
            settings,
            Console(file=io.StringIO()),
            source="run",
            rows=compared,
            override=override,
        )
    return _Published(outcome, staged.version)


@pytest.fixture
def not_verified(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Spares the fresh process; the measurements, to be changed."""
    measured = {
        "retrieval": {"recall_at_100": 0.96, "queries": 10},
        "retrieval_exact": {"recall_at_100": 1.0, "queries": 10},
    }
    monkeypatch.setattr(verify, "verify", lambda *_: measured)
    return measured


@pytest.mark.usefixtures("not_verified")
def test_a_worse_version_is_kept_and_not_served(
    store: Store, rows: TestRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _publish(store, rows, 0.9, compared=rows)
    assert first.outcome.published
    assert "no version was served before" in first.outcome.record.checks["quality"].text
    worse = _publish(store, rows, 0.7, compared=rows)
    assert not worse.outcome.published
    assert (store.current(), store.versions()) == (1, [1, 2])
    # Both through their exports; what the project's own evaluation says of the scores.
    values = worse.outcome.record.checks["quality"].values
    for key, knowing in (
        ("serving_unseen_items_top_100", 0.9),
        ("unseen_items_top_100", 0.7),
    ):
        scores = _scores(rows, knowing)
        expected = evaluation.evaluate(
            lambda users, scores=scores: scores[users], rows.parts.train, rows.parts.test
        )
        assert values[key] == expected.unseen_items.top_100
    assert values["rows"] == len(rows.parts.test)
    monkeypatch.setattr(report, "show", lambda *_: None)
    with pytest.raises(Refused) as raised:
        publishing.conclude(worse.outcome, store.models_dir, Console(file=io.StringIO()))
    said = str(raised.value)
    assert f"{values['unseen_items_top_100']:.4f}, version 1's" in said
    assert "python -m trainer promote 2" in said
    assert cli.main(["promote", "2", "--models-dir", str(store.models_dir)]) == 1
    assert store.current() == 1


@pytest.mark.usefixtures("not_verified")
def test_how_much_worse_is_configured_and_can_be_overridden(store: Store, rows: TestRows) -> None:
    _publish(store, rows, 0.9, compared=rows)
    lenient = config.load("default", ["gate.max_quality_loss=0.5"])
    assert _publish(store, rows, 0.7, compared=rows, settings=lenient).outcome.published
    reason = "the old one recommends what was recalled"
    third = _publish(store, rows, 0.3, compared=rows, override=reason)
    assert third.outcome.published
    assert record.read(store.directory(3)).promotions[-1].reason == reason
    assert record.read(store.directory(3)).gate == "overridden"
    assert third.outcome.record.failed
    # Compared with what is served, not with the number before.
    assert third.outcome.record.checks["quality"].values["serving_version"] == 2


def test_recall_below_the_target_is_not_served(
    store: Store, rows: TestRows, not_verified: dict[str, Any]
) -> None:
    assert _publish(store, rows).outcome.published
    not_verified["retrieval"]["recall_at_100"] = 0.94
    outcome = _publish(store, rows).outcome
    assert not outcome.published
    assert outcome.record.failed == ["recall@100 of the index is 0.9400, 0.95 is asked for"]
    assert store.current() == 1


@pytest.mark.parametrize(
    ("recall", "error", "passes"),
    [(0.95, 0.0, True), (0.949, 0.0, False), (0.949, 0.001, True), (0.949, 0.0004, False)],
)
def test_what_is_below_by_chance_is_not_below(recall: float, error: float, passes: bool) -> None:
    check = publishing._recall({"recall_at_100": recall, "recall_at_100_error": error}, 0.95)
    assert check.passed is passes
    assert ("measured to within" in check.text) is (passes and recall < 0.95)


@pytest.mark.usefixtures("not_verified")
def test_without_test_rows_quality_is_no_part_of_it(store: Store, rows: TestRows) -> None:
    _publish(store, rows, 0.9, compared=rows)
    outcome = _publish(store, rows, 0.1).outcome
    assert outcome.published
    assert outcome.record.checks["quality"].text.endswith("there are no test rows")


def test_what_does_not_load_is_not_kept(store: Store, rows: TestRows) -> None:
    def spoil(directory: Path) -> None:
        [data] = (directory / "retrieval" / "variables").glob("*.data*")
        data.write_bytes(data.read_bytes()[:1000])

    with pytest.raises(VerificationError):
        _publish(store, rows, spoil=spoil)
    assert store.versions() == []
    assert not list(store.models_dir.glob(".staging*"))


@pytest.mark.usefixtures("not_verified")
def test_another_version_that_came_in_between_is_what_it_is_compared_with(
    store: Store, rows: TestRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(store, rows, 0.5, compared=rows)
    compare, asked = quality.compare, []

    def slow(new: Path, serving: Path, *arguments: Any) -> Check:
        asked.append(int(serving.name))
        if len(asked) == 1:
            _publish(store, rows, 0.9, compared=rows)
        return compare(new, serving, *arguments)

    monkeypatch.setattr(quality, "compare", slow)
    assert not _publish(store, rows, 0.6, compared=rows).outcome.published
    assert asked == [1, 1, 3]
    assert store.current() == 3


# What follows needs no models.


@pytest.fixture
def serving(tmp_path: Path, rows: TestRows) -> Path:
    directory = tmp_path / "7"
    directory.mkdir()
    companions.write(directory, rows.dataset)
    Record(7, "", "run", "", ITEMS, 0.5, 1.0, {}, rows.fingerprint()).write(directory)
    return directory


def _answering(
    monkeypatch: pytest.MonkeyPatch, *rankings: NDArray[np.float32], known: bool = True
) -> list[Any]:
    """Models that answer with what scores highest in each of ``rankings``."""
    asked: list[Any] = []

    def ask(
        models: list[Path], user_ids: Any, depths: NDArray[np.int64], _item_ids: Any
    ) -> list[answers.Answers]:
        asked.append((models, user_ids, depths))
        found = []
        for scores in rankings:
            users = [int(user[1:]) for user in user_ids]
            lists = [
                np.argsort(-scores[user])[:depth] for user, depth in zip(users, depths, strict=True)
            ]
            found.append(
                answers.Answers(
                    np.concatenate(lists).astype(np.int32),
                    np.cumsum([0, *map(len, lists)]),
                    np.full(len(users), known),
                )
            )
        return found

    monkeypatch.setattr(answers, "ask", ask)
    return asked


def test_rows_that_the_served_version_was_trained_on_do_not_count(
    rows: TestRows, serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = _scores(rows, 1.0), _scores(rows, 0.0)
    _answering(monkeypatch, bad, good)
    assert not quality.compare(Path("new"), serving, rows, SETTINGS.gate).passed
    # Another split of the same data: it has seen every one of the rows.
    other = _rows(rows.dataset, seed=1)
    check = quality.compare(Path("new"), serving, other, SETTINGS.gate)
    assert check.passed
    assert "trained on other rows; only 0 of these are new to it" in check.text
    # New rows are new to both: on these they are compared.
    test = other.parts.test
    seen = set(zip(rows.dataset.interactions.users, rows.dataset.interactions.items, strict=True))
    new = [(u, i) for u in range(USERS) for i in range(ITEMS) if (u, i) not in seen][::50]
    users, items = np.array(new, np.int32).T
    more = Interactions(np.append(test.users, users), np.append(test.items, items))
    check = quality.compare(
        Path("new"),
        serving,
        replace(other, parts=Split("random", other.parts.train, more)),
        SETTINGS.gate,
    )
    assert check.values["rows"] == len(new) > 200


def test_other_data_is_not_compared(
    rows: TestRows, serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = _scores(rows, 1.0), _scores(rows, 0.0)
    _answering(monkeypatch, bad, good, known=False)
    check = quality.compare(Path("new"), serving, rows, SETTINGS.gate)
    assert (check.passed, "knows only 0.0% of the users" in check.text) == (True, True)
    companions.write_items(serving / "items.csv", [("other", "Other")])
    check = quality.compare(Path("new"), serving, rows, SETTINGS.gate)
    assert (check.passed, "knows only 0.0% of the items" in check.text) == (True, True)


def test_a_served_version_that_is_broken_holds_nothing_back(
    rows: TestRows, serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(models: list[Path], *_: Any) -> None:
        if len(models) == 2:
            raise VerificationError("no saved_model.pb")

    monkeypatch.setattr(answers, "ask", ask)
    check = quality.compare(Path("new"), serving, rows, SETTINGS.gate)
    assert check.passed
    assert "with version 7: it does not answer: no saved_model.pb" in check.text
    (serving / "version.json").write_text("{}")
    check = quality.compare(Path("new"), serving, rows, SETTINGS.gate)
    assert (check.passed, "with version 7: it cannot be read" in check.text) == (True, True)


def test_no_more_users_are_asked_for_than_configured(
    rows: TestRows, serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = _scores(rows, 1.0)
    asked = _answering(monkeypatch, good, good)
    settings = config.GateConfig(users=10)
    check = quality.compare(Path("new"), serving, rows, settings)
    assert check.values["users"] == len(asked[0][1]) == 10
    # Deep enough, whatever of it are training items.
    counts = np.bincount(rows.parts.train.users, minlength=USERS)
    users = [int(user[1:]) for user in asked[0][1]]
    assert asked[0][2].tolist() == (100 + counts[users]).tolist()


def test_the_fingerprint_is_of_the_pairs_whatever_their_order(rows: TestRows) -> None:
    shuffled = rows.parts.test.take(np.random.default_rng(0).permutation(len(rows.parts.test)))
    again = replace(rows, parts=Split("", rows.parts.train, shuffled))
    assert again.fingerprint() == rows.fingerprint()
    assert _rows(rows.dataset, 1).fingerprint() != rows.fingerprint()
    swapped = Interactions(shuffled.users, np.roll(shuffled.items, 1))
    other = replace(rows, parts=Split("", rows.parts.train, swapped))
    assert other.fingerprint() != rows.fingerprint()


# A stored version, checked again.


@pytest.fixture
def stored(models_dir: Path, tmp_path: Path) -> Store:
    shutil.copytree(models_dir, tmp_path / "stored", symlinks=True)
    return Store(tmp_path / "stored")


def test_a_sound_version(stored: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--models-dir", str(stored.models_dir)]) == 0
    said = capsys.readouterr().out
    assert "Version 1 is sound" in said
    assert "36 requests answered, recall@100 1.0000 of 512 queries" in said
    metadata = stored.directory(1) / "retrieval" / "1" / "fingerprint.pb"
    metadata.write_bytes(metadata.read_bytes() + b"x")
    assert cli.main(["verify", "1", "--models-dir", str(stored.models_dir)]) == 1
    assert "its SHA-256 differs" in capsys.readouterr().err


def _without_warm_up(directory: Path) -> None:
    path = directory / "retrieval" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    first = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
    with tf.io.TFRecordWriter(str(path)) as records:
        records.write(first)


def _with_another_model(directory: Path) -> None:
    module = tf.Module()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="item_id"),
            tf.TensorSpec([None], tf.int32, name="k"),
        ]
    )
    def by_item(item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"item_id": item_id[:, None], "score": tf.cast(k, tf.float32), "known": k > 0}

    old = directory / "retrieval_exact" / "1"
    extra = directory / "extra"
    (old / "assets.extra").rename(extra)
    shutil.rmtree(old)
    tf.saved_model.save(module, str(old), signatures={"by_item": by_item})
    extra.rename(old / "assets.extra")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_warm_up, "retrieval: no warm-up request of by_history"),
        (_with_another_model, "retrieval_exact: by_item: shapes"),
    ],
)
def test_an_unsound_version(stored: Store, change: Any, message: str) -> None:
    change(stored.directory(1))
    with pytest.raises(VerificationError, match=message):
        recheck.main(stored.directory(1), 1, ITEMS)


def test_an_index_of_vectors_is_checked_by_its_items(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    servable = VectorServable(
        candidate_vectors=vectors, item_ids=np.array([f"i{n}" for n in range(ITEMS)], "S")
    )
    companions.write_ids(tmp_path, servable.item_ids)
    for name in ("retrieval", "retrieval_exact"):
        (tmp_path / name).mkdir()
        saved_model.save(servable, ExactIndex(vectors), tmp_path / name / "1", name, {})
    found = recheck.main(tmp_path, 1, ITEMS)
    expected = {"requests": 12, "recall_at_100": 1.0, "standard_error": 0.0, "queries": 64}
    assert found == expected


def test_both_lists_of_digests_cover_every_file(stored: Store) -> None:
    directory = stored.directory(1)
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert sealing.check(directory, record.read(directory)) == len(files) - 1
    for model in ("retrieval", "retrieval_exact"):
        version = directory / model / "1"
        manifest = json.loads((version / "assets.extra" / "manifest.json").read_text())
        there = {path.relative_to(version).as_posix() for path in version.rglob("*.*")}
        assert set(manifest["files"]) <= {
            path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()
        }
        assert {"saved_model.pb", "variables/variables.index"} <= set(manifest["files"]) & there
