"""`index` publishes vectors that another program made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import scann  # noqa: F401  (registers the ops)
import tensorflow as tf

from tests.trainer.index.clustered import clustered
from trainer.cli.main import main
from trainer.data import vectors


def test_only_index_settings_are_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = _write(tmp_path)
    more = ["--set", "training.epochs=5"]
    assert _index(files, tmp_path / "models", "vectors.npy", "ids.txt", *more) == 1
    assert "settings that begin with 'index.'" in capsys.readouterr().err


def _write(directory: Path, count: int = 500) -> dict[str, Path]:
    embeddings = clustered(count, 1)
    np.save(directory / "vectors.npy", embeddings)
    np.save(directory / "queries.npy", clustered(300, 2))
    lists = pa.array(list(embeddings), pa.list_(pa.float32()))
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
    return main(["index", *given, "--models-dir", str(models), *more])


def test_every_file_format_is_read(tmp_path: Path) -> None:
    files = _write(tmp_path)
    for name in ("vectors.npy", "vectors.parquet"):
        np.testing.assert_array_equal(vectors.load(files[name]), clustered(500, 1))
    expected = [f"ä,{row}".encode() for row in range(500)]
    for name in ("ids.txt", "ids.csv", "ids.npy", "ids.parquet"):
        assert vectors.load_ids(files[name]).tolist() == expected


@pytest.mark.parametrize(
    ("embeddings", "ids"),
    [
        ("vectors.npy", "ids.txt"),
        ("vectors.parquet", "ids.csv"),
    ],
)
def test_published_vectors_are_served(embeddings: str, ids: str, tmp_path: Path) -> None:
    files = _write(tmp_path)
    models = tmp_path / "models"
    assert _index(files, models, embeddings, ids, "--queries", str(files["queries.npy"])) == 0
    queries = np.load(files["queries.npy"])
    best = (queries @ np.load(files["vectors.npy"]).T).argmax(axis=1)
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
    assert metrics["index"]["retrieval"]["queries"] == 150, "the other half tuned the index"
    assert "recall" in (models / "reports" / "1" / "report.html").read_text(encoding="utf-8")
    lines = (models / "items.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].replace('"', "") == "item_id,title"
    assert lines[8] == '"ä,7","ä,7"'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ids.txt", "a\n" * 500, "the id 'a' occurs more than once"),
        ("ids.txt", "a\n", "1 ids for 500 vectors"),
        ("ids.txt", "a\n\nb\n", "ids.txt, line 2: an id must be text of 1 to 256 bytes"),
        ("ids.txt", "x" * 257 + "\n", "ids.txt, line 1"),
        ("ids.csv", "id\na\n", "ids.csv has no column item_id; the columns are id"),
        ("ids.csv", "item_id\na\n" + "x" * 257 + "\n", "ids.csv, line 3: an id must be text of"),
        ("ids.csv", 'item_id\na\n"b\nc\n', 'ids.csv, line 3: a quote (") is never closed'),
        (
            "ids.csv",
            "item_id,x\na,1\nb\n",
            "ids.csv, line 3: expected 2 values as in the header, but found 1",
        ),
        (
            "ids.parquet",
            pa.table({"x": ["a"]}),
            "ids.parquet has no column item_id; the columns are x",
        ),
        ("ids.parquet", pa.table({"item_id": [[1]]}), "the type must be text or numbers or bytes"),
        (
            "ids.parquet",
            pa.table({"item_id": ["a", None]}),
            "ids.parquet, row 2: an id must be text of",
        ),
        ("ids.csv", "item_id\n", "no ids"),
        ("ids.txt", "a\na\0\n", "ids.txt, line 2: an id must be text of 1 to 256 bytes"),
        ("ids.npy", np.array([b"\xff"] * 500), "ids.npy"),
        ("ids.npy", "", "ids.npy"),
        (
            "vectors.npy",
            np.full((500, 4), 1e30, np.float32),
            "a number that is not finite or is too large",
        ),
        ("vectors.npy", np.ones((500,), np.float32), "must hold a two-dimensional array"),
        ("vectors.npy", np.full((500, 4), np.nan, np.float32), "vectors.npy, index 0"),
        ("vectors.npy", np.full((500, 4), "x"), "must hold a two-dimensional array of numbers"),
        ("vectors.npy", "nonsense", "vectors.npy"),
        ("queries.npy", np.ones((5, 3), np.float32), "queries have 3 dimensions, but vectors"),
        (
            "vectors.parquet",
            pa.table({"vector": [[1.0], [1.0, 2.0]]}),
            "all vectors must have the same number",
        ),
        ("vectors.parquet", pa.table({"a": [1], "b": [2]}), "no column vector or embedding"),
        (
            "vectors.parquet",
            pa.Table.from_arrays([pa.array([[1.0]])] * 2, names=["vector", "vector"]),
            "has more than one column 'vector'",
        ),
    ],
)
def test_bad_file_is_named_and_nothing_is_published(
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
