"""Untrusted Parquet, MovieLens and NumPy files are read or refused, and memory is bounded."""

import datetime
import decimal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.refusal import is_refused
from tools.processes import ROOT
from trainer.data import features, files, movielens, vectors
from trainer.errors import DataError

GOOD = b"user_id,item_id\n1,2\n"


_ITEM = b"%s|T|01-Jan-1995||url|" + b"|".join([b"0"] * 19) + b"\n"
_LINE_BYTES = (1 << 30) if os.environ.get("SHORTLIST_HUGE_FILES") else 400 << 20
_MAX_GROWTH_BYTES = 60 << 20
_MEASURE = """
import sys
from pathlib import Path
from trainer.data import files, movielens, vectors
from trainer.errors import ConfigError, DataError
from trainer import config
def peak_kb():
    # Not ru_maxrss, which a child process inherits from its parent.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
def error_of(path):
    try:
        {"csv": files.load, "txt": vectors.load_ids, "toml": lambda path: config.load(str(path)),
         "data": lambda path: movielens.load(path.parent)}[path.suffix[1:]](path)
    except (DataError, ConfigError) as error:
        return error
short, endless = map(Path, sys.argv[1:])
# Readers import modules on first use, which must not count.
error_of(short)
before = peak_kb()
print(error_of(endless))
print(peak_kb() - before)
"""


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("clicks.csv", GOOD + b"1,"),
        ("clicks.csv", GOOD + b'1,"'),
        ("clicks.csv", b""),
        ("ids.txt", b"a\n"),
        ("mine.toml", b"# "),
        ("u.data", b"1\t2\t3\t4\n"),
    ],
)
def test_endless_line_is_refused_in_bounded_memory(tmp_path: Path, name: str, head: bytes) -> None:
    paths = []
    for directory, size_bytes in (("short", 1_000), ("endless", _LINE_BYTES)):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "u.item").write_bytes(_ITEM % b"2")
        (tmp_path / directory / "u.user").write_bytes(b"1|24|M|t|8\n")
        paths.append(tmp_path / directory / name)
        with paths[-1].open("wb") as file:
            file.write(head)
            # A sparse file of zeros, which takes no disk space.
            file.truncate(size_bytes)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    message, grown_kb = done.stdout.rsplit("\n", 2)[:2]
    assert "more than" in message
    assert int(grown_kb) << 10 < _MAX_GROWTH_BYTES, f"{int(grown_kb) >> 10} MiB"


_COLUMNS = {
    "int8 with a gap": pa.array([1, None], pa.int8()),
    "large integers": pa.array([2**64 - 1, 1], pa.uint64()),
    "not a number": pa.array([1.0, float("nan")]),
    "infinity": pa.array([float("inf"), 1e300]),
    "booleans": pa.array([True, None]),
    "nulls": pa.nulls(2),
    "bytes": pa.array([b"\xff", b"a"]),
    "fixed-size bytes": pa.array([b"ab", b"\xff\xff"], pa.binary(2)),
    "digits": pa.array(["9" * 400, "-18446744073709551616"]),
    "words": pa.array(["NaT", "x"]).dictionary_encode(),
    "decimals": pa.array([decimal.Decimal("9" * 38), None], pa.decimal128(38, 0)),
    "dates": pa.array([datetime.date(9999, 1, 1), datetime.date(1, 1, 1)]),
    "distant times": pa.array([2**62, -(2**62)]).cast(pa.timestamp("us", "+14:00")),
    "more distant times": pa.array([2**63 - 1, 0]).cast(pa.timestamp("ms")),
    "times of day": pa.array([datetime.time(1), datetime.time(2)]),
    "durations": pa.array([5, None], pa.duration("s")),
    "lists": pa.array([["a"], None]),
    "structs": pa.array([{"a": 1}, {"a": 2}]),
    "maps": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
    "lists of lists": pa.array([[[1]], [[None]]]),
    "broken text": pa.StringArray.from_buffers(2, *pa.array([b"a", b"\xff"]).buffers()[1:]),
}
_TEXT = {"int8 with a gap", "large integers", "not a number", "infinity", "decimals", "words"}
#: The types that each column can be read from; all other types are refused.
_READABLE = {
    "user_id": {"large integers", "words"},
    "item_id": {"large integers", "words"},
    "timestamp": {"dates", "distant times", "more distant times"},
    "rating": {"large integers"},
    "title": {*_TEXT, "digits", "nulls"},
    "feature": {*_COLUMNS} - {"broken text"},
}


@pytest.mark.parametrize("kind", _COLUMNS)
@pytest.mark.parametrize(
    "column", ["user_id", "item_id", "timestamp", "rating", "title", "feature"]
)
def test_columns_of_any_type_are_read_or_refused(tmp_path: Path, column: str, kind: str) -> None:
    path, clicks = tmp_path / "any.parquet", tmp_path / "clicks.csv"
    clicks.write_bytes(GOOD)
    two = {"user_id": pa.array(["a", "b"]), "item_id": pa.array(["c", "d"])}
    pyarrow.parquet.write_table(pa.table({**two, column: _COLUMNS[kind]}), path)
    of_items = column in ("title", "feature")
    try:
        found = files.load(clicks, path) if of_items else files.load(path)
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
        assert f"column {column}" in str(error)  # noqa: PT017
        assert kind not in _READABLE[column]
        return
    assert kind in _READABLE[column]
    assert all(type(one) is str for one in (*found.user_ids, *found.item_ids, *found.titles))
    for kind in ("auto", *(f"{column}:{one}" for one in ("category", "tags", "number", "text"))):
        if found.item_features is not None:
            features.fit(found.item_features, [kind], "items").encode(found.item_features)


def test_damaged_parquet_file_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    table = pa.table({"user_id": ["a", "b"], "item_id": ["c", "d"], "timestamp": [1, 2]})
    pyarrow.parquet.write_table(table, path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        for data in (whole[:place], changed):
            path.write_bytes(data)
            refused += is_refused(files.load, path)
    assert refused > len(whole) / 7


def test_duplicate_column_is_refused_and_pandas_metadata_ignored(tmp_path: Path) -> None:
    path = tmp_path / "clicks.parquet"
    arrays = [pa.array([one]) for one in ("a", "b", "c")]
    twice = pa.Table.from_arrays(arrays, names=["user_id", "item_id", "item_id"])
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(DataError, match=r"clicks\.parquet has more than one column 'item_id'"):
        files.load(path)
    noted = pa.table({"user_id": ["a"], "item_id": ["b"]}).replace_schema_metadata({"pandas": "{"})
    pyarrow.parquet.write_table(noted, path)
    assert files.load(path).user_ids.tolist() == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("u.data", b"", "u.data, line 1: expected 4 fields, but found 1"),
        ("u.data", b"1\t2\tinf\t4\n", "u.data, line 1, column rating: a rating must be a finite"),
        ("u.data", b"1\t2\t5\t1e300\n", "u.data, line 1, column timestamp: a time must be in sec"),
        ("u.data", b"1\t2\t5\t4\n1\t2\t5\t\n", "u.data, line 2, column timestamp: a time must be"),
        (
            "u.item",
            _ITEM % b"2" + _ITEM % b"2",
            "u.item, line 2, column item_id: '2' is already in line 1",
        ),
        (
            "u.item",
            _ITEM % b"2" + _ITEM % b"",
            "u.item, line 2, column item_id: an id must be text of 1 to 256 bytes",
        ),
        (
            "u.user",
            b"x" * 257 + b"|24|M|t|8\n",
            "u.user, line 1, column user_id: an id must be text of 1 to 256 bytes",
        ),
        (
            "u.user",
            b"1|24|M|t|8\n1|24|M|t|8\n",
            "u.user, line 2, column user_id: '1' is already in line 1",
        ),
    ],
)
def test_malformed_movielens_file_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    good = {"u.data": b"1\t2\t5\t4\n", "u.item": _ITEM % b"2", "u.user": b"1|24|M|t|8\n"}
    for each, data in {**good, name: content}.items():
        (tmp_path / each).write_bytes(data)
    with pytest.raises(DataError) as raised:
        movielens.load(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/{message}")


_PIECES = [
    *(b"((((((", b"'''", b"[", b"'O'", b"999999999999999999", b"-1", b"'<U9'", b"'<f16'", b"'<c8'"),
    *(b"True", b"{", b"'V8'", b"'<M8[s]'", b"\xff", b"\\", b"\n"),
]


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(max_examples=400)
@given(
    array=st.sampled_from(
        [np.ones((3, 4), np.float32), np.array(["a", "é"]), np.array([b"a"]), np.arange(3)]
    ),
    changes=st.lists(st.tuples(st.integers(0, 140), st.sampled_from(_PIECES)), max_size=3),
    kept=st.integers(0, 200),
)
def test_random_numpy_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    array: Any,
    changes: list[tuple[int, bytes]],
    kept: int,
) -> None:
    path = tmp_path_factory.mktemp("npy") / "vectors.npy"
    np.save(path, array)
    data = bytearray(path.read_bytes())
    for place, piece in changes:
        data[place : place + len(piece)] = piece
    path.write_bytes(data[:kept] if kept > 100 else data)
    is_refused(vectors.load, path)
    is_refused(vectors.load_ids, path)
