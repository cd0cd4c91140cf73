"""Exported models answer as numpy does, whatever the catalogue, k and batch."""

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scann  # noqa: F401
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2
from trainer.serving_module import RetrievalModule

from serving_contract import MAX_K
from trainer import config, export, publish, report
from trainer.index.exact import ExactIndex
from trainer.index.scann import ScannIndex
from trainer.towers import IdTower

MODELS = ("retrieval", "retrieval_exact")


class _Oracle:
    """A catalogue of integer vectors, so that dot products are exact, and its answers."""

    def __init__(self, users: int, items: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.user_ids = np.array([f"u{i}" for i in range(users)], object)
        self.item_ids = np.array([f"i{i}" for i in range(items)], object)
        self.tower = IdTower(self.user_ids, 4, normalize=False, seed=1, name="query_tower")
        self.tower(tf.constant(["u0"]))
        weights = random.integers(-4, 5, (users + 1, 4)).astype(np.float32)
        self.tower.set_weights([weights])
        self.queries = weights[1:]
        self.vectors = random.integers(-4, 5, (items, 4)).astype(np.float32)
        self.popularity = random.integers(0, 9, items).astype(np.float32)

    def module(self, index: Any) -> RetrievalModule:
        return RetrievalModule(self.tower, index, self.item_ids, self.popularity)

    def top(self, scores: np.ndarray, k: int, width: int, without: int = -1) -> tuple[list, list]:
        order = [row for row in np.argsort(-scores, kind="stable") if row != without][:k]
        gap = width - len(order)
        ids = [self.item_ids[row].encode() for row in order] + [b""] * gap
        return ids, [float(scores[row]) for row in order] + [-np.inf] * gap


@settings(max_examples=40, deadline=None)
@given(
    items=st.integers(1, 30),
    asked=st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 40)), min_size=0, max_size=5),
    seed=st.integers(0, 1000),
)
def test_exact_answers_equal_numpys(items: int, asked: list[tuple[int, int]], seed: int) -> None:
    oracle = _Oracle(4, items, seed)
    signatures = oracle.module(ExactIndex(oracle.vectors)).signatures()
    k = tf.constant([k for _, k in asked], tf.int32)
    width = max((k for _, k in asked), default=0)

    answer = signatures["by_user"](tf.constant([f"u{u}" for u, _ in asked], tf.string), k)
    assert answer["known"].numpy().tolist() == [u >= 0 for u, _ in asked]
    for row, (user, depth) in enumerate(asked):
        scores = oracle.popularity if user < 0 else oracle.vectors @ oracle.queries[user]
        ids, expected = oracle.top(scores, depth, width)
        assert answer["item_id"].numpy()[row].tolist() == ids
        assert answer["score"].numpy()[row].tolist() == expected

    similar = signatures["by_item"](tf.constant([f"i{i}" for i, _ in asked], tf.string), k)
    for row, (item, depth) in enumerate(asked):
        known = 0 <= item < items
        assert similar["known"].numpy()[row] == known
        scores = oracle.vectors @ oracle.vectors[item if known else 0]
        ids, expected = oracle.top(scores, depth if known else 0, width, without=item)
        assert similar["item_id"].numpy()[row].tolist() == ids
        assert similar["score"].numpy()[row].tolist() == expected


@pytest.mark.parametrize(
    "bounds",
    [[], ["index.hashing_from=0"], ["index.hashing_from=0", "index.partitions_from=0"]],
    ids=["brute force", "hashing", "partitions"],
)
def test_every_kind_of_scann_index_answers(bounds: list[str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    oracle = _Oracle(3, 2000, 0)
    oracle.vectors = random.normal(size=(2000, 4)).astype(np.float32)
    settings_ = [*bounds, "index.leaves=10", "index.leaves_searched_share=0.5"]
    index = ScannIndex(oracle.vectors, config.load("default", settings_).index)
    servable = export.Servable(
        oracle.tower, oracle.vectors, oracle.item_ids, oracle.popularity, oracle.user_ids
    )
    export.export(servable, index, tmp_path / "m", "m", {})
    signatures = tf.saved_model.load(str(tmp_path / "m")).signatures
    users = tf.constant(["u0", "u1", "u2", "nobody"])
    for k in (1, 10, 700, 2500):
        answer = signatures["by_user"](user_id=users, k=tf.fill([4], k))
        ids, scores = answer["item_id"].numpy(), answer["score"].numpy()
        assert ids.shape == (4, k)
        for user in range(3):
            given = [one for one in ids[user].tolist() if one]
            truth, _ = oracle.top(oracle.vectors @ oracle.queries[user], k, min(k, 2000))
            assert len(set(given)) == len(given)
            assert len(set(given) & set(truth)) >= (0.4 if bounds[1:] else 0.9) * len(truth)
            assert (np.diff(scores[user][: len(given)]) <= 1e-5).all()
            assert all(np.isneginf(scores[user][len(given) :]))
        similar = signatures["by_item"](item_id=tf.constant(["i5"]), k=tf.fill([1], k))
        assert b"i5" not in similar["item_id"].numpy()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("ids", "k"), [(["u0"], [-1]), (["u0"], [MAX_K + 1]), (["u0", "u1"], [3]), (["u0"], [3, 4])]
)
def test_a_wrong_k_is_an_invalid_argument(
    models_dir: Path, model: str, ids: list[str], k: list[int]
) -> None:
    signature = tf.saved_model.load(str(models_dir / model / "1")).signatures["by_user"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        signature(user_id=tf.constant(ids), k=tf.constant(k, tf.int32))


def _ops(directory: Path) -> set[str]:
    graph = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        nodes.extend(function.node_def)
    functions = {function.signature.name for function in graph.graph_def.library.function}
    return {node.op for node in nodes} - functions


def test_only_scanns_ops_beside_tensorflows(models_dir: Path) -> None:
    exact, scann_ops = (
        _ops(models_dir / model / "1") for model in ("retrieval_exact", "retrieval")
    )
    assert not {op for op in exact if ">" in op}
    foreign = {op for op in scann_ops if ">" in op}
    assert foreign
    assert all(op.startswith("Scann>") for op in foreign)
    # An op that TensorFlow 2.11 does not have would have to be in this difference.
    assert (scann_ops | exact) - foreign <= _OPS_OF_TENSORFLOW_2_11


_OPS_OF_TENSORFLOW_2_11 = set(
    """
    Add AddV2 Assert AssignVariableOp Cast Const ConcatV2 Cumsum Equal
    ExpandDims Fill Gather GatherNd GatherV2 Greater GreaterEqual HashTableV2 Identity
    IdentityN If IsNan Less LessEqual LogicalAnd LogicalNot LogicalOr LookupTableFindV2
    LookupTableImportV2 MatMul Max Maximum MergeV2Checkpoints Min Minimum Mul Neg NoOp
    NotEqual Pack Pad PadV2 PartitionedCall Placeholder Prod Range ReadVariableOp RealDiv
    Reshape ResourceGather RestoreV2 Rsqrt SaveV2 Select SelectV2 Shape ShardedFilename
    SparseToDense Square StatefulPartitionedCall StatelessIf StaticRegexFullMatch
    StridedSlice StringJoin Sub Sum TopKV2 VarHandleOp VarIsInitializedOp All Size
    BroadcastTo BroadcastArgs DisableCopyOnRead Bitcast Unpack Squeeze Any Split LookupTableSizeV2
    """.split()  # noqa: SIM905
)


def test_what_a_run_leaves_behind(models_dir: Path) -> None:
    metrics = json.loads((models_dir / "reports" / "1" / "metrics.json").read_text())
    assert set(metrics["dataset"]) == {"name", "users", "items", "train", "test", "split"}
    assert list(metrics["baselines"]) == ["popularity", "item-kNN", "EASE", "iALS"]
    for quality in (metrics["test"], *metrics["baselines"].values()):
        assert set(quality["per_user"]) == {
            *("recall_at_10", "recall_at_100", "ndcg_at_10", "ndcg_at_100")
        }
        for definition in ("all_items", "unseen_items"):
            assert set(quality[definition]) == {"top_1", "top_5", "top_10", "top_50", "top_100"}
    assert metrics["index"]["retrieval"]["recall_at_100"] > 0.99
    assert metrics["train_seconds"] > 0
    assert metrics["version"] == 1
    assert len(metrics["learning_curve"]["loss"]) == 4
    page = (models_dir / "reports" / "1" / "report.html").read_text(encoding="utf-8")
    assert page == report.html(metrics), "the page can be made again from metrics.json"
    for model in MODELS:
        extra = models_dir / model / "1" / "assets.extra"
        manifest = json.loads((extra / "manifest.json").read_text())
        assert manifest["versions"]["tensorflow"].startswith("2.20")
        assert manifest["index"]["kind"]
        records = list(tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests")))
        assert len(records) == 9
    assert not list(models_dir.glob(".staging*"))
    config_text = (models_dir / "models.config").read_text()
    assert 'base_path: "/models/retrieval_exact"' in config_text
    with (models_dir / "items.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["item_id", "title"]
    seen = sqlite3.connect(models_dir / "seen.sqlite")
    assert seen.execute("SELECT count(*) FROM seen").fetchone()[0] > 90_000
    seen.close()


def test_a_version_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    def interrupted() -> None:
        with publish.staging(tmp_path) as (version, directory):
            assert version == 1
            assert not directory.name.isdigit()
            (directory / "retrieval").mkdir()
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "retrieval" / "7").mkdir(parents=True)
    (tmp_path / "retrieval" / "not-a-version").mkdir()
    with publish.staging(tmp_path) as (version, _):
        assert version == 8
