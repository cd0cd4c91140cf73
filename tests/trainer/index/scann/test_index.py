"""A saved ScaNN index reaches the recall target at any k."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.trainer.artifact.ops import OPS_OF_TENSORFLOW_2_11, ops_of
from tests.trainer.index.clustered import DIM, clustered
from tests.trainer.numpy_oracle import NumpyOracle, history_tensor
from trainer.artifact import saved_model
from trainer.artifact.servable import VectorServable
from trainer.config import IndexConfig, ScannConfig
from trainer.index import kinds
from trainer.index.scann.depth_tuning import TuningResult
from trainer.index.scann.index import ScannIndex
from trainer.index.scann.searcher import Depth
from trainer.index.scann.tuner import Tuner
from trainer.index.workload import Workload

ITEMS = 20_000
HASHING = ScannConfig(dimensions_per_block=2, anisotropic_threshold=0.2)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(ITEMS, 1)


@pytest.fixture(scope="module", params=["hashing", "partitions"])
def tuned(request: pytest.FixtureRequest, vectors: np.ndarray) -> TuningResult:
    return Tuner(vectors, {"queries": clustered(600, 2)}, request.param, HASHING, 0.95).tune()


@pytest.fixture(scope="module")
def saved(vectors: np.ndarray, tuned: TuningResult, tmp_path_factory: Any) -> Path:
    directory: Path = tmp_path_factory.mktemp("index") / "m"
    ids = np.array([f"item-{row}" for row in range(ITEMS)], object)
    servable = VectorServable(item_ids=ids, candidate_vectors=vectors)
    saved_model.save(servable, ScannIndex(vectors, tuned), directory, "m", {})
    return directory


@pytest.fixture(scope="module")
def model(saved: Path) -> Any:
    return tf.saved_model.load(str(saved))


def test_target_recall_is_reached_at_any_k(model: Any, vectors: np.ndarray) -> None:
    queries = clustered(100, 3)  # Other queries than those that tuned the index.
    order = np.argsort(-(queries @ vectors.T), axis=1)
    for k in (10, 55, 100, 1_000, 2_222, 5_000):
        answer = model.signatures["by_vector"](vector=tf.constant(queries), k=tf.fill([100], k))
        recalls = [
            len({f"item-{row}".encode() for row in best[:k]} & set(ids)) / k
            for best, ids in zip(order, answer["item_id"].numpy(), strict=True)
        ]
        assert np.mean(recalls) > 0.94, k
        assert answer["known"].numpy().all()


def test_search_is_no_deeper_than_the_target_needs(tuned: TuningResult) -> None:
    assert [point.depth.k for point in tuned.by_k] == [1, 10, 30, 100, 300, 1_000, 3_000, 10_000]
    assert all(point.recall >= 0.95 for point in tuned.by_k)
    at_100 = next(point.depth for point in tuned.by_k if point.depth.k == 100)
    assert at_100.rescored < ITEMS / 10
    assert at_100.leaves_searched <= tuned.searcher.design.leaves * 0.3


def test_depth_has_to_grow_with_k(tuned: TuningResult, vectors: np.ndarray) -> None:
    at_100 = next(point.depth for point in tuned.by_k if point.depth.k == 100)
    depth = Depth(5_000, at_100.leaves_searched, 5_000)
    workload = Workload(vectors, {"queries": clustered(50, 3)}, [5_000])
    recall = workload.recall(lambda queries: tuned.searcher.search(queries, depth), 5_000)
    assert recall.mean < 0.95


def test_all_signatures_share_one_searcher(
    saved: Path, vectors: np.ndarray, tuned: TuningResult
) -> None:
    names = _shared_names(saved)
    assert len(names) > 1
    assert len(set(names)) == 1
    other_index = ScannIndex(vectors, tuned)
    assert other_index._shared_name.encode() not in {*names, b""}


def _shared_names(directory: Path) -> list[bytes]:
    graph = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    return [
        node.attr["shared_name"].s
        for function in graph.graph_def.library.function
        for node in function.node_def
        if node.op == "Scann>TensorsToScann"
        # A function of ScaNN's own, which no signature calls.
        and "recreate_handle" not in function.signature.name
    ]


def test_ids_and_vectors_are_not_part_of_the_graph(saved: Path) -> None:
    assert (saved / "saved_model.pb").stat().st_size < 600_000


@pytest.mark.parametrize(
    ("vector", "message"),
    [([[np.nan] * DIM], "not finite"), ([[1.0] * (DIM - 1)], "length"), ([[]], "length")],
)
def test_invalid_vector_is_an_invalid_argument(model: Any, vector: Any, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        model.signatures["by_vector"](vector=tf.constant(vector, tf.float32), k=tf.constant([3]))


@pytest.mark.parametrize("kind", ["brute_force", "quantized_brute_force", "hashing", "partitions"])
def test_every_kind_answers_every_signature(kind: Any, tmp_path: Path) -> None:
    oracle = NumpyOracle(3, 2000, 0)
    dim = oracle.servable.query.base.size
    vectors = np.random.default_rng(0).normal(size=(2000, dim)).astype(np.float32)
    oracle.servable = replace(oracle.servable, candidate_vectors=vectors)
    weights = oracle.servable.query
    assert weights.item_vectors is not None
    queries = np.array(
        [weights.base + weights.item_vectors[[row, row + 1]].sum(0) for row in range(99)]
    )
    builder = kinds.builder(IndexConfig(kind=kind))
    index = builder.build(vectors, {"items": vectors, "users": queries}, 0.9, print)
    assert index.description()["kind"] == kind
    saved_model.save(oracle.servable, index, tmp_path / "m", "m", {})
    ops = {op for op in ops_of(tmp_path / "m") if not op.startswith("Scann>")}
    assert ops <= OPS_OF_TENSORFLOW_2_11
    # The variable keeps the model, and so its variables, alive.
    model = tf.saved_model.load(str(tmp_path / "m"))
    batch = [(0, [4, 5]), (1, [7, -1]), (2, [-1, -1]), (-1, [1, 8]), (-1, [-1, -1])]
    users = tf.constant([f"u{user}" for user, _ in batch])
    history = history_tensor([recent for _, recent in batch], 2)
    for k in (1, 10, 700, 2500):
        answer = model.signatures["by_user_and_history"](
            user_id=users, history=history, k=tf.fill([5], k)
        )
        ids, scores = answer["item_id"].numpy(), answer["score"].numpy()
        assert ids.shape == (5, k)
        correct = expected = 0
        for row, (user, recent) in enumerate(batch):
            found = [item_id for item_id in ids[row].tolist() if item_id]
            best, _ = oracle.top(oracle.query_scores(user, recent)[0], k, min(k, 2000))
            assert len(set(found)) == len(found)
            correct, expected = correct + len(set(found) & set(best)), expected + len(best)
            assert (np.diff(scores[row][: len(found)]) <= 1e-5).all()
            assert all(np.isneginf(scores[row][len(found) :]))
        # Together, because a single query may be far below the target by chance.
        assert k == 1 or correct >= 0.75 * expected
        similar = model.signatures["by_item"](item_id=tf.constant(["i5"]), k=tf.fill([1], k))
        assert b"i5" not in similar["item_id"].numpy()
