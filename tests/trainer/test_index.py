"""Recall is reached, at any k, by the cheapest index that does; or the run says what could be."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
import scann  # noqa: F401
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from trainer.artifact import export
from trainer.cli import main as cli
from trainer.config import IndexConfig
from trainer.index import IndexTuningError, memory, recall
from trainer.index import tuner as tuning
from trainer.index.depth import Depth, DepthTable
from trainer.index.exact import ExactIndex
from trainer.index.points import Tuned
from trainer.index.scann import ScannIndex
from trainer.index.searcher import Design, Searcher
from trainer.index.workload import Catalogue

ITEMS, DIM = 20_000, 16
KS = (10, 100, 1_000, 5_000)


def _clustered(count: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).normal(size=(300, DIM))
    random = np.random.default_rng(seed)
    points = centres[random.integers(300, size=count)] + 0.7 * random.normal(size=(count, DIM))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return _clustered(ITEMS, 1)


def _tuned(vectors: np.ndarray, **settings: Any) -> Tuned:
    return tuning.tune(vectors, {"queries": _clustered(600, 2)}, IndexConfig(**settings))


@pytest.fixture(scope="module", params=["hashing", "partitions"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tuned(vectors: np.ndarray, kind: str) -> Tuned:
    return _tuned(vectors, kind=kind, dimensions_per_block=2, anisotropic_threshold=0.2)


@pytest.fixture(scope="module")
def exported(vectors: np.ndarray, tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("index") / "m"
    ids = np.array([f"item-{row}" for row in range(ITEMS)], object)
    servable = export.VectorServable(item_ids=ids, candidate_vectors=vectors)
    export.export(servable, ScannIndex(vectors, tuned), directory, "m", {})
    return directory


@pytest.fixture
def asked(exported: Path) -> Iterator[Any]:
    loaded = tf.saved_model.load(str(exported))
    yield loaded.signatures["by_vector"]
    del loaded


def test_the_recall_is_reached_at_any_k(asked: Any, vectors: np.ndarray) -> None:
    queries = _clustered(100, 3)
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1)
    for k in (*KS, 55, 2_222):
        answer = asked(vector=tf.constant(queries), k=tf.fill([100], k))
        ids = answer["item_id"].numpy()
        found = [
            len({*(f"item-{row}".encode() for row in best[:k])} & set(given)) / k
            for best, given in zip(order, ids, strict=True)
        ]
        # The queries are others than those it was tuned with.
        assert np.mean(found) > 0.94, k
        assert answer["known"].numpy().all()


def test_it_looks_no_deeper_than_it_has_to(tuned: Tuned) -> None:
    """It would be easy to reach a recall by scoring everything."""
    depth = next(point for point in tuned.points if point.depth.k == 100).depth
    assert depth.rescored < ITEMS / 10
    assert depth.leaves_searched <= tuned.searcher.design.leaves * 0.3
    assert [point.depth.k for point in tuned.points] == [1, 10, 30, 100, 300, 1_000, 3_000, 10_000]
    assert all(point.recall >= 0.95 for point in tuned.points)


def test_shallow_depths_would_miss_the_recall(tuned: Tuned, vectors: np.ndarray) -> None:
    """What is measured at k = 100 is not enough for 5,000: the depth has to follow k."""
    shallow = tuned.searcher.search(_clustered(50, 3), Depth(5_000, 1, 5_000))
    kth = recall.kth_best(vectors, _clustered(50, 3), [5_000])[:, 0]
    assert recall.recall(shallow, _clustered(50, 3), vectors, kth).mean() < 0.95


def test_one_searcher_for_all_signatures(exported: Path, vectors: np.ndarray, tuned: Any) -> None:
    names = _shared_names(exported)
    assert len(names) > 1
    assert len(set(names)) == 1
    assert names[0]
    assert ScannIndex(vectors, tuned)._shared_name.encode() not in names, "unique by export"


def _shared_names(directory: Path) -> list[bytes]:
    graph = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    return [
        node.attr["shared_name"].s
        for function in graph.graph_def.library.function
        for node in function.node_def
        if node.op == "Scann>TensorsToScann"
        # ScaNN's own, which no signature calls.
        and "recreate_handle" not in function.signature.name
    ]


def test_ids_are_kept_beside_the_graph(exported: Path) -> None:
    assert (exported / "saved_model.pb").stat().st_size < 600_000


@pytest.mark.parametrize(
    ("vector", "message"),
    [([[np.nan] * DIM], "not finite"), ([[1.0] * (DIM - 1)], "length"), ([[]], "length")],
)
def test_a_wrong_vector_is_an_invalid_argument(asked: Any, vector: Any, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        asked(vector=tf.constant(vector, tf.float32), k=tf.constant([3]))


def _timed(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Let indexes take so long, by their kind, however busy the machine is."""

    def of_kind(_: Catalogue, searcher: Searcher, __: Depth) -> tuple[float, float]:
        return seconds[searcher.design.kind], seconds[searcher.design.kind]

    monkeypatch.setattr(Catalogue, "seconds", of_kind)


def test_approximate_only_where_it_is_much_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = _clustered(1_700, 1)
    _timed(monkeypatch, brute_force=1.0, quantized_brute_force=0.9, hashing=0.7)
    tuned = _tuned(vectors)
    assert tuned.searcher.design.kind == "brute_force"
    assert tuned.reason == "exact, and nothing else was 1.5 times as fast"
    assert {point.design.kind for point in tuned.tried} >= {"brute_force", "hashing"}
    _timed(monkeypatch, brute_force=1.0, quantized_brute_force=0.6, hashing=0.5)
    tuned = _tuned(vectors)
    assert tuned.searcher.design.kind == "hashing"
    assert "cheapest" in tuned.reason


def test_many_items_are_tried_with_partitions(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    _timed(monkeypatch, brute_force=4.0, quantized_brute_force=3.0, hashing=2.0, partitions=1.0)
    tuned = _tuned(np.concatenate([vectors, _clustered(20_000, 5)]))
    assert tuned.searcher.design.kind == "partitions"
    assert {point.design.kind for point in tuned.tried} == {
        *("brute_force", "quantized_brute_force", "hashing", "partitions")
    }


def test_few_items_are_searched_exactly() -> None:
    tuned = _tuned(_clustered(999, 1))
    assert tuned.searcher.design.kind == "brute_force"
    assert tuned.reason == "the only kind for 999 items"


def test_what_cannot_be_reached_is_said() -> None:
    vectors = _clustered(3_000, 1)
    with pytest.raises(IndexTuningError, match=r"0.9999.*quantized_brute_force came nearest, with"):
        _tuned(vectors, kind="quantized_brute_force", target_recall=0.9999)


def test_depth_in_the_graph_is_depth_in_numpy() -> None:
    depths = [Depth(1, 2, 20), Depth(10, 5, 60), Depth(100, 30, 300)]
    table = DepthTable(depths, size=5_000, leaves=70)
    for k in (1, 7, 10, 55, 100, 101, 250, 4_999, 5_000):
        leaves, rescored = table.lookup(tf.constant(k))
        assert table.at(k) == Depth(k, int(leaves), int(rescored))
        assert int(rescored) >= k
    assert [table.at(one.k) for one in depths] == depths
    assert table.at(55) == Depth(55, 18, 180)
    assert table.at(250).leaves_searched == 70, "no more than there are"


def test_the_exact_answer_comes_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = _clustered(1_000, 1), _clustered(7, 2)
    scores = -np.sort(-(queries @ vectors.T), axis=1)
    for at_once in (7 * 13, 1, 10**9):
        monkeypatch.setattr(recall, "_SCORES_AT_ONCE", at_once)
        found = recall.kth_best(vectors, queries, [1, 20, 1_000])
        np.testing.assert_allclose(found, scores[:, [0, 19, 999]], rtol=1e-5)


def test_items_that_score_alike_are_alike_right() -> None:
    vectors = np.array([[1.0], [1.0], [1.0], [0.5]], np.float32)
    queries = np.array([[1.0]], np.float32)
    kth = recall.kth_best(vectors, queries, [2])[:, 0]
    for rows, share in (([0, 2], 1.0), ([1, 2], 1.0), ([0, 3], 0.5), ([-1, -1], 0.0)):
        assert recall.recall(np.array([rows], np.int32), queries, vectors, kth) == [share]


def test_too_little_memory_is_said_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = memory.to_build(10_000_000, 32)
    assert needed > 10_000_000 * 32 * 4
    assert memory.to_build(20_000_000, 32) > 1.8 * needed
    monkeypatch.setattr(memory, "available", lambda: needed)
    assert memory.warning(10_000_000, 32) is None
    monkeypatch.setattr(memory, "available", lambda: needed - 1)
    said = memory.warning(10_000_000, 32) or ""
    assert f"{needed / 2**30:.1f} GiB" in said


def test_what_is_free_is_what_the_container_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 10**8 < memory.available() < 10**14
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", limit)
    monkeypatch.setattr(memory, "_CGROUP_USED", used)
    used.write_text("34\n")
    for text, expected in (("max\n", False), ("1234\n", True)):
        limit.write_text(text)
        assert (memory.available() == 1200) is expected


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_recall_does_not_depend_on_the_scale(scale: float) -> None:
    vectors, queries = _clustered(1_500, 1) * np.float32(scale), _clustered(20, 2)
    kth = recall.kth_best(vectors, queries, [50])[:, 0]
    order = np.argsort(-(queries @ vectors.T), axis=1).astype(np.int32)
    assert recall.recall(order[:, :50], queries, vectors, kth).tolist() == [1.0] * 20
    assert recall.recall(order[:, 50:100], queries, vectors, kth).max() < 0.1


def test_a_searcher_that_is_let_go_frees_its_memory() -> None:
    vectors = _clustered(200_000, 1)
    process = psutil.Process()
    held = []
    for _ in range(6):
        Searcher(vectors, Design("brute_force"))
        gc.collect()
        held.append(process.memory_info().rss)
    assert held[-1] - held[1] < 2 * vectors.nbytes


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kind": "hashing"}, "needs 16 items, not 5"), ({"leaves": 6}, "more than the 5 items")],
)
def test_too_few_items_for_what_is_asked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(IndexTuningError, match=message):
        _tuned(_clustered(5, 1), **settings)


# The command that publishes vectors made elsewhere.


def test_only_the_index_can_be_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = _write(tmp_path)
    more = ["--set", "training.epochs=5"]
    assert _index(files, tmp_path / "models", "vectors.npy", "ids.txt", *more) == 1
    assert "only index. can be set" in capsys.readouterr().err


def _write(directory: Path, count: int = 500) -> dict[str, Path]:
    vectors = _clustered(count, 1)
    np.save(directory / "vectors.npy", vectors)
    np.save(directory / "queries.npy", _clustered(300, 2))
    lists = pa.array(list(vectors), pa.list_(pa.float32()))
    pa.parquet.write_table(pa.table({"vector": lists}), directory / "vectors.parquet")
    names = [f"ä,{row}" for row in range(count)]
    (directory / "ids.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    np.save(directory / "ids.npy", np.array([name.encode() for name in names]))
    pa.parquet.write_table(pa.table({"item_id": names}), directory / "ids.parquet")
    quoted = "item_id,title\n" + "".join(f'"{name}",x\n' for name in names)
    (directory / "ids.csv").write_text(quoted, encoding="utf-8")
    return {path.name: path for path in directory.iterdir()}


def _index(files: dict[str, Path], models: Path, embeddings: str, ids: str, *more: str) -> int:
    given = ["--embeddings", str(files[embeddings]), "--ids", str(files[ids])]
    return cli.main(["index", *given, "--models-dir", str(models), *more])


@pytest.mark.parametrize(
    ("embeddings", "ids"),
    [
        ("vectors.npy", "ids.txt"),
        ("vectors.parquet", "ids.parquet"),
        ("vectors.npy", "ids.npy"),
        ("vectors.parquet", "ids.csv"),
    ],
)
def test_vectors_made_elsewhere_are_served(embeddings: str, ids: str, tmp_path: Path) -> None:
    files = _write(tmp_path)
    models = tmp_path / "models"
    assert _index(files, models, embeddings, ids, "--queries", str(files["queries.npy"])) == 0
    queries, vectors = np.load(files["queries.npy"]), np.load(files["vectors.npy"])
    best = (queries @ vectors.T).argmax(axis=1)
    for model in ("retrieval", "retrieval_exact"):
        loaded = tf.saved_model.load(str(models / model / "1"))
        assert set(loaded.signatures) == {"by_vector", "by_item"}
        answer = loaded.signatures["by_vector"](
            vector=tf.constant(queries), k=tf.fill([len(queries)], 3)
        )
        given = [one.decode() for one in answer["item_id"].numpy()[:, 0]]
        assert given == [f"ä,{row}" for row in best]
        similar = loaded.signatures["by_item"](item_id=tf.constant(["ä,7"]), k=tf.constant([5]))
        assert "ä,7".encode() not in similar["item_id"].numpy()
        assert similar["known"].numpy().all()
    metrics = json.loads((models / "reports" / "1" / "metrics.json").read_text())
    assert metrics["dataset"]["items"] == 500
    assert metrics["index"]["retrieval"]["kind"] == "brute_force"
    assert metrics["index"]["retrieval"]["queries"] == 150, "half of them have tuned it"
    assert "recall" in (models / "reports" / "1" / "report.html").read_text(encoding="utf-8")
    lines = (models / "items.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].replace('"', "") == "item_id,title"
    assert lines[8] == '"ä,7","ä,7"'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ids.txt", "a\n" * 500, "'a' is there twice"),
        ("ids.txt", "a\n", "1 ids for 500 vectors"),
        ("ids.txt", "a\n\nb\n", "ids.txt, line 2: an id is 1 to 256 bytes"),
        ("ids.txt", "x" * 257 + "\n", "ids.txt, line 1"),
        ("ids.csv", "id\na\n", "ids.csv: no column item_id; found: id"),
        ("ids.csv", "item_id\na\n" + "x" * 257 + "\n", "ids.csv, line 3: an id is 1 to"),
        ("ids.csv", 'item_id\na\n"b\nc\n', 'ids.csv, line 3: a quote " that is not closed'),
        ("ids.csv", "item_id,x\na,1\nb\n", "ids.csv, line 3: 1 values, the header has 2"),
        ("ids.parquet", pa.table({"x": ["a"]}), "ids.parquet: no column item_id; found: x"),
        ("ids.parquet", pa.table({"item_id": [[1]]}), "column item_id: text or numbers or bytes"),
        ("ids.parquet", pa.table({"item_id": ["a", None]}), "ids.parquet, row 2: an id is 1 to"),
        ("ids.csv", "item_id\n", "no ids"),
        ("ids.txt", "a\na\0\n", "ids.txt, line 2: an id is 1 to 256 bytes"),
        ("ids.npy", np.array([b"\xff"] * 500), "ids.npy"),
        ("ids.npy", "", "ids.npy"),
        ("vectors.npy", np.full((500, 4), 1e30, np.float32), "row 0: not a finite number, or too"),
        ("vectors.npy", np.ones((500,), np.float32), "rows and columns"),
        ("vectors.npy", np.full((500, 4), np.nan, np.float32), "row 0: not a finite number"),
        ("vectors.npy", np.full((500, 4), "x"), "must hold numbers"),
        ("vectors.npy", "nonsense", "vectors.npy"),
        ("queries.npy", np.ones((5, 3), np.float32), "queries have 3 dimensions, vectors 16"),
        ("vectors.parquet", pa.table({"vector": [[1.0], [1.0, 2.0]]}), "not all of one length"),
        ("vectors.parquet", pa.table({"a": [1], "b": [2]}), "no column vector or embedding"),
        (
            "vectors.parquet",
            pa.Table.from_arrays([pa.array([[1.0]])] * 2, names=["vector", "vector"]),
            "there is more than one column 'vector'",
        ),
    ],
)
def test_bad_files_are_named(
    name: str, content: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = _write(tmp_path)
    if isinstance(content, str):
        files[name].write_text(content)
    elif isinstance(content, pa.Table):
        pa.parquet.write_table(content, files[name])
    else:
        np.save(files[name], content)
    embeddings = name if name.startswith("vectors") else "vectors.npy"
    ids = name if name.startswith("ids") else "ids.txt"
    more = ["--queries", str(files["queries.npy"])]
    assert _index(files, tmp_path / "models", embeddings, ids, *more) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "models" / "retrieval").exists()


def test_a_searcher_says_what_it_does_not_find(vectors: np.ndarray) -> None:
    exact = ExactIndex(vectors[:5])
    assert exact.dim == DIM
    searcher = Searcher(vectors, Design("partitions", 200, 2, 0.2))
    rows = searcher.search(vectors[:3], Depth(5_000, 1, 5_000))
    assert (rows == -1).any()
    assert (np.diff((rows == -1).astype(int), axis=1) >= 0).all(), "at the end"
