"""Exported models answer as numpy does, whatever the catalogue, k and batch."""

import csv
import json
import sqlite3
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scann  # noqa: F401
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving_contract import MAX_K
from trainer import config, report
from trainer import probe as verify
from trainer.artifact import export
from trainer.data import split, synthetic
from trainer.data.histories import Histories
from trainer.errors import VerificationError
from trainer.index import tuner as tuning
from trainer.index.exact import ExactIndex
from trainer.index.scann import ScannIndex
from trainer.model.towers import pooling
from trainer.model.towers.query import QueryWeights
from trainer.pipelines import build
from trainer.probe import checks, questions
from trainer.probe import loaded_model as answers

MODELS = ("retrieval", "retrieval_exact")
SIGNATURES = {
    *("by_user", "serving_default", "by_item", "by_history", "by_user_and_history", "by_vector")
}
DIM = 4
#: Of the model in ``models_dir``.
DIMENSIONS = 64


def _histories(lists: list[list[int]]) -> Histories:
    offsets = np.cumsum([0, *map(len, lists)])
    return Histories(offsets, np.array([item for one in lists for item in one], np.int32))


class _Oracle:
    """A catalogue of integer vectors, so that dot products are exact, and its answers."""

    def __init__(
        self,
        users: int,
        items: int,
        seed: int,
        *,
        history: bool = True,
        user_vectors: bool = True,
        item_queries: bool = False,
    ) -> None:
        random = np.random.default_rng(seed)

        def vectors(count: int) -> np.ndarray:
            return random.integers(-4, 5, (count, DIM)).astype(np.float32)

        self.stored = [random.permutation(items)[:user].tolist() for user in range(users)]
        # Every item of a history weighs 1, and exponent 0 makes the sum of their vectors.
        weights = QueryWeights(
            base=vectors(1)[0],
            item_vectors=vectors(items) if history else None,
            item_log_weights=np.zeros(items, np.float32),
            age_log_weights=np.zeros(pooling.AGE_BUCKETS, np.float32),
            exponent=0.0,
            history_length=5,
            user_vectors=vectors(users) if user_vectors else None,
            normalize=False,
        )
        self.servable = export.Servable(
            query=weights,
            user_ids=np.array([f"u{i}" for i in range(users)], object),
            histories=_histories(self.stored),
            candidate_vectors=vectors(items),
            item_ids=np.array([f"i{i}" for i in range(items)], object),
            popularity=random.integers(0, 9, items).astype(np.float32),
            item_queries=vectors(items) if item_queries else None,
        )

    def signatures(self) -> dict[str, Any]:
        index = ExactIndex(self.servable.candidate_vectors)
        return self.servable.module(index).signatures()

    def query_scores(self, user: int, recent: list[int]) -> tuple[np.ndarray, bool]:
        """Of a user, -1 for an unknown one, who just did ``recent``; and whether known."""
        servable, weights = self.servable, self.servable.query
        items = len(servable.item_ids)
        known_recent = [item for item in recent if 0 <= item < items]
        known = user >= 0 or (bool(known_recent) and weights.item_vectors is not None)
        if not known:
            return servable.popularity, False
        query = weights.base.copy()
        if weights.item_vectors is not None:
            whole = [*(self.stored[user] if user >= 0 else []), *known_recent]
            newest = list(dict.fromkeys(reversed(whole)))[: weights.history_length]
            query += weights.item_vectors[newest].sum(axis=0)
        if weights.user_vectors is not None and user >= 0:
            query += weights.user_vectors[user]
        return servable.candidate_vectors @ query, True

    def item_scores(self, item: int) -> tuple[np.ndarray, bool]:
        servable = self.servable
        if not 0 <= item < len(servable.item_ids):
            return np.full(len(servable.item_ids), -np.inf), False
        queries = servable.candidate_vectors
        if servable.item_queries is not None:
            queries = servable.item_queries
        scores = servable.candidate_vectors @ queries[item]
        scores[item] = -np.inf
        return scores, True

    def top(self, scores: np.ndarray, k: int, width: int) -> tuple[list[bytes], list[float]]:
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])][:k]
        gap = width - len(order)
        ids = [self.servable.item_ids[row].encode() for row in order] + [b""] * gap
        return ids, [float(scores[row]) for row in order] + [-np.inf] * gap


def _check(
    oracle: _Oracle, answer: dict[str, Any], truth: list[tuple[np.ndarray, bool]], ks: list[int]
) -> None:
    width = max(ks, default=0)
    assert answer["known"].numpy().tolist() == [known for _, known in truth]
    assert answer["item_id"].shape == answer["score"].shape == (len(ks), width)
    for row, ((scores, _), k) in enumerate(zip(truth, ks, strict=True)):
        ids, expected = oracle.top(scores, k, width)
        assert answer["item_id"].numpy()[row].tolist() == ids
        assert answer["score"].numpy()[row].tolist() == expected


def _history(rows: list[list[int]], width: int) -> tf.Tensor:
    """-1 is padding; what is beyond the catalogue is unknown."""
    names = ["" if item < 0 else f"i{item}" for row in rows for item in row[:width]]
    return tf.reshape(tf.constant(names, tf.string), [len(rows), width])


@cache
def _answering(
    items: int, *, history: bool, user_vectors: bool, item_queries: bool
) -> tuple[_Oracle, dict[str, Any]]:
    oracle = _Oracle(
        *(4, items, items), history=history, user_vectors=user_vectors, item_queries=item_queries
    )
    return oracle, oracle.signatures()


@settings(max_examples=150, deadline=None)
@given(
    items=st.sampled_from([1, 2, 30]),
    parts=st.sampled_from([(True, True, True), (True, False, False), (False, True, False)]),
    asked=st.lists(
        st.tuples(
            st.integers(-1, 3),
            st.integers(0, 31),
            st.lists(st.integers(-1, 32), min_size=7, max_size=7),
            st.integers(0, 40),
        ),
        max_size=5,
    ),
    width=st.integers(0, 7),
)
def test_exact_answers_equal_numpys(
    items: int,
    parts: tuple[bool, bool, bool],
    asked: list[tuple[int, int, list[int], int]],
    width: int,
) -> None:
    history, user_vectors, item_queries = parts
    oracle, signatures = _answering(
        items, history=history, user_vectors=user_vectors, item_queries=item_queries
    )
    users = [user for user, _, _, _ in asked]
    similar_to = [item for _, item, _, _ in asked]
    recent = [one[:width] for _, _, one, _ in asked]
    ks = [k for _, _, _, k in asked]
    k = tf.constant(ks, tf.int32)
    # u-1 is nobody.
    user_id = tf.constant([f"u{user}" for user in users], tf.string)
    sent = _history(recent, width)

    _check(
        *(oracle, signatures["by_user"](user_id, k)),
        *([oracle.query_scores(user, []) for user in users], ks),
    )
    _check(
        *(oracle, signatures["by_item"](tf.constant([f"i{i}" for i in similar_to], tf.string), k)),
        *([oracle.item_scores(item) for item in similar_to], ks),
    )
    _check(
        *(oracle, signatures["by_history"](sent, k)),
        *([oracle.query_scores(-1, one) for one in recent], ks),
    )
    _check(
        *(oracle, signatures["by_user_and_history"](user_id, sent, k)),
        *([oracle.query_scores(*one) for one in zip(users, recent, strict=True)], ks),
    )


@pytest.mark.parametrize("kind", ["brute_force", "quantized_brute_force", "hashing", "partitions"])
def test_every_kind_of_scann_index_answers(kind: str, tmp_path: Path) -> None:
    oracle = _Oracle(3, 2000, 0)
    vectors = np.random.default_rng(0).normal(size=(2000, DIM)).astype(np.float32)
    oracle.servable = replace(oracle.servable, candidate_vectors=vectors)
    settings_ = config.load("default", [f"index.kind={kind}", "index.target_recall=0.9"])
    queries = np.array(
        [
            oracle.servable.query.base + oracle.servable.query.item_vectors[[i, i + 1]].sum(0)
            for i in range(99)
        ]
    )
    tuned = tuning.tune(vectors, {"items": vectors, "users": queries}, settings_.index)
    assert tuned.searcher.design.kind == kind
    export.export(oracle.servable, ScannIndex(vectors, tuned), tmp_path / "m", "m", {})
    # Held on to: its variables live as long as it does.
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    asked = [(0, [4, 5]), (1, [7, -1]), (2, [-1, -1]), (-1, [1, 8]), (-1, [-1, -1])]
    users = tf.constant([f"u{user}" for user, _ in asked])
    history = _history([recent for _, recent in asked], 2)
    for k in (1, 10, 700, 2500):
        answer = loaded.signatures["by_user_and_history"](
            user_id=users, history=history, k=tf.fill([5], k)
        )
        ids, scores = answer["item_id"].numpy(), answer["score"].numpy()
        assert ids.shape == (5, k)
        found = wanted = 0
        for row, (user, recent) in enumerate(asked):
            given = [one for one in ids[row].tolist() if one]
            truth, _ = oracle.top(oracle.query_scores(user, recent)[0], k, min(k, 2000))
            assert len(set(given)) == len(given)
            found, wanted = found + len(set(given) & set(truth)), wanted + len(truth)
            assert (np.diff(scores[row][: len(given)]) <= 1e-5).all()
            assert all(np.isneginf(scores[row][len(given) :]))
        # Of five queries together: one alone may be far below the target by chance.
        assert k == 1 or found >= 0.75 * wanted
        similar = loaded.signatures["by_item"](item_id=tf.constant(["i5"]), k=tf.fill([1], k))
        assert b"i5" not in similar["item_id"].numpy()


def _inputs(signature: str, rows: int) -> dict[str, tf.Tensor]:
    """Good ids for a signature of a model of the synthetic data set."""
    every = {
        "user_id": tf.constant([f"u{row}" for row in range(rows)]),
        "item_id": tf.constant([f"i{row}" for row in range(rows)]),
        "history": tf.constant([[f"i{row}", ""] for row in range(rows)]),
        "vector": tf.fill([rows, DIMENSIONS], 0.1),
    }
    names = {
        "by_item": ["item_id"],
        "by_vector": ["vector"],
        "by_history": ["history"],
        "by_user_and_history": ["user_id", "history"],
    }.get(signature, ["user_id"])
    return {name: every[name] for name in names}


@pytest.fixture(scope="module", params=MODELS)
def loaded(request: pytest.FixtureRequest, models_dir: Path) -> Any:
    return tf.saved_model.load(str(models_dir / request.param / "1"))


@pytest.mark.parametrize("signature", sorted(SIGNATURES))
@pytest.mark.parametrize(
    ("rows", "k"), [(1, [-1]), (1, [MAX_K + 1]), (2, [3]), (1, [3, 4]), (1, [])]
)
def test_a_wrong_k_is_an_invalid_argument(
    loaded: Any, signature: str, rows: int, k: list[int]
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="k must"):
        loaded.signatures[signature](**_inputs(signature, rows), k=tf.constant(k, tf.int32))


def test_users_and_histories_of_unequal_number_are_an_invalid_argument(loaded: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="k must"):
        loaded.signatures["by_user_and_history"](
            user_id=tf.constant(["u0"]),
            history=tf.constant([["i0"], ["i1"]]),
            k=tf.constant([1], tf.int32),
        )


def test_the_largest_k_is_answered(loaded: Any) -> None:
    answer = loaded.signatures["by_history"](
        history=tf.constant([["i0"]]), k=tf.constant([MAX_K], tf.int32)
    )
    ids = answer["item_id"].numpy()
    assert ids.shape == (1, MAX_K)
    assert len(set(ids[0][:1682].tolist())) == 1682
    assert set(ids[0][1682:].tolist()) == {b""}


def test_every_signature_is_warmed_up(loaded: Any, models_dir: Path) -> None:
    assert set(loaded.signatures) == SIGNATURES
    for model in MODELS:
        path = models_dir / model / "1" / "assets.extra" / "tf_serving_warmup_requests"
        shapes: dict[str, list[tuple[int, int]]] = {}
        for record in tf.data.TFRecordDataset(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            assert request.model_spec.name == model
            tensors = {name: tf.make_ndarray(one) for name, one in request.inputs.items()}
            answer = loaded.signatures[request.model_spec.signature_name](
                **{name: tf.constant(one) for name, one in tensors.items()}
            )
            assert answer["known"].numpy().all(), "a warm-up that asks for nothing known"
            shape = (len(tensors["k"]), int(tensors["k"][0]))
            shapes.setdefault(request.model_spec.signature_name, []).append(shape)
        assert shapes == {name: [(1, 10), (1, 100), (32, 100)] for name in SIGNATURES}


def _ops(directory: Path) -> set[str]:
    graph = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        nodes.extend(function.node_def)
    functions = {function.signature.name for function in graph.graph_def.library.function}
    return {node.op for node in nodes} - functions


@pytest.fixture(scope="module")
def ops_of_every_kind(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of exact models with all parts and with as few as there can be."""
    found: set[str] = set()
    for parts in (True, False):
        oracle = _Oracle(3, 5, 0, history=parts, user_vectors=True, item_queries=parts)
        query = replace(oracle.servable.query, normalize=parts, exponent=0.5)
        servable = replace(oracle.servable, query=query)
        directory = tmp_path_factory.mktemp("exported") / "m"
        export.export(servable, ExactIndex(servable.candidate_vectors), directory, "m", {})
        found |= _ops(directory)
    return found


def test_only_ops_that_old_model_servers_know(
    models_dir: Path, ops_of_every_kind: set[str]
) -> None:
    exact, scann_ops = (
        _ops(models_dir / model / "1") for model in ("retrieval_exact", "retrieval")
    )
    exact |= ops_of_every_kind
    assert not {op for op in exact if ">" in op}
    foreign = {op for op in scann_ops if ">" in op}
    assert foreign
    assert all(op.startswith("Scann>") for op in foreign)
    assert (scann_ops | exact) - foreign <= _OPS_OF_TENSORFLOW_2_11


# Each was looked up in the op registry of TensorFlow 2.11.1.
_OPS_OF_TENSORFLOW_2_11 = set(
    """
    Add AddV2 Assert AssignVariableOp Cast CheckNumerics Const ConcatV2 Cumsum Equal
    ExpandDims Fill Gather GatherNd GatherV2 Greater GreaterEqual HashTableV2 Identity
    IdentityN If IsNan Less LessEqual LogicalAnd LogicalNot LogicalOr LookupTableFindV2
    LookupTableImportV2 MatMul Max Maximum MergeV2Checkpoints Min Minimum Mul Neg NoOp
    NotEqual Pack Pad PadV2 PartitionedCall Placeholder Prod Range ReadVariableOp RealDiv
    Reshape ResourceGather RestoreV2 Rsqrt SaveV2 Select SelectV2 Shape ShardedFilename
    SparseToDense Square StatefulPartitionedCall StatelessIf StaticRegexFullMatch
    StridedSlice StringJoin Sub Sum TopKV2 VarHandleOp VarIsInitializedOp All Size
    BroadcastTo BroadcastArgs DisableCopyOnRead Bitcast Unpack Squeeze Any Split LookupTableSizeV2
    Exp Log Pow RaggedGather RaggedRange Tile Transpose Unique UnsortedSegmentMax
    UnsortedSegmentSum Where
    """.split()  # noqa: SIM905
)


def _wrong_queries(servable: export.Servable) -> export.Servable:
    return replace(servable, query=replace(servable.query, base=servable.query.base + 1))


def _other_histories(servable: export.Servable) -> export.Servable:
    return replace(servable, histories=servable.histories.newest(0))


def _other_similar(servable: export.Servable) -> export.Servable:
    return replace(servable, item_queries=-servable.candidate_vectors)


def _other_popular(servable: export.Servable) -> export.Servable:
    return replace(servable, popularity=servable.popularity + 1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[export.Servable, Path]:
    """A catalogue and the directory of its two models."""
    servable = _Oracle(4, 30, 1).servable
    directory = tmp_path_factory.mktemp("small")
    build.build(servable, directory, config.IndexConfig(), {}, print)
    return servable, directory


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (_wrong_queries, "retrieval_exact: by_user: scores differ"),
        (_other_histories, "retrieval_exact: by_user: scores differ"),
        (_other_similar, "retrieval_exact: by_item: scores differ"),
        (_other_popular, "retrieval_exact: by_user: unknown ids do not get the popular"),
    ],
)
def test_what_answers_wrongly_is_found_out(
    changed: Any, message: str, small: tuple[export.Servable, Path], tmp_path: Path
) -> None:
    servable, directory = small
    questions.write(changed(servable), tmp_path)
    with pytest.raises(VerificationError, match=message):
        checks.check(directory, tmp_path)


def test_every_question_is_checked_however_few_at_once(
    small: tuple[export.Servable, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servable, directory = small
    questions.write(servable, tmp_path)
    queries = np.load(tmp_path / "queries.npy")
    wrong = queries.copy()
    wrong[-1] *= -1
    for scores in (3 * len(servable.item_ids), 1):
        monkeypatch.setattr(answers, "_SCORES_AT_ONCE", scores)
        np.save(tmp_path / "queries.npy", queries)
        assert checks.check(directory, tmp_path)["retrieval"]["recall_at_100"] == 1.0
        np.save(tmp_path / "queries.npy", wrong)
        with pytest.raises(VerificationError, match="by_user: scores differ"):
            checks.check(directory, tmp_path)


def test_a_fresh_process_says_what_it_found(small: tuple[export.Servable, Path]) -> None:
    servable, directory = small
    measured = verify.verify(directory, servable)
    found = measured["retrieval"]
    assert found["recall_at_10"] == found["recall_at_100"] == found["by_item_recall_at_100"] == 1.0
    assert found["queries"] == 4
    assert found["milliseconds"] > 0
    with pytest.raises(VerificationError, match="by_user: scores differ"):
        verify.verify(directory, _wrong_queries(servable))


def test_a_model_without_histories_is_verified(tmp_path: Path) -> None:
    servable = _Oracle(4, 30, 1, history=False).servable
    build.build(servable, tmp_path / "models", config.IndexConfig(), {}, print)
    questions.write(servable, tmp_path)
    measured = checks.check(tmp_path / "models", tmp_path)
    assert measured["retrieval"]["recall_at_100"] == 1.0


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
    assert not list(models_dir.glob(".staging*"))
    config_text = (models_dir / "models.config").read_text()
    assert 'base_path: "/models/retrieval_exact"' in config_text
    with (models_dir / "items.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["item_id", "title"]
    seen = sqlite3.connect(models_dir / "seen.sqlite")
    assert seen.execute("SELECT count(*) FROM seen").fetchone()[0] > 90_000
    seen.close()


def test_the_popular_are_those_of_the_training_rows(models_dir: Path) -> None:
    train = split.split(synthetic.load().interactions, "random", 0.2, config.Config().seed).train
    loaded = tf.saved_model.load(str(models_dir / "retrieval_exact" / "1"))
    answer = loaded.signatures["by_user"](user_id=tf.constant(["nobody"]), k=tf.constant([50]))
    np.testing.assert_array_equal(
        answer["score"].numpy()[0], np.sort(np.bincount(train.items))[::-1][:50]
    )
