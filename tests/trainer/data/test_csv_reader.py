"""A CSV file is either read exactly or refused with the line of the problem."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.refusal import is_refused
from trainer.cli import main as cli
from trainer.data import files

GOOD = b"user_id,item_id\n1,2\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "no rows"),
        (b"\xef\xbb\xbf", "no rows"),
        (b"user_id,item_id", "no rows"),
        (b"user_id,item_id,item_id\n1,2,3\n", "more than one column 'item_id'"),
        (b"user_id,other\n1,2\n", "has no column item_id; the columns are user_id, other"),
        (
            b"user_id;item_id\n1;2\n",
            "has no column user_id, item_id; the columns are user_id;item_id",
        ),
        (GOOD + b"1\n", "line 3: expected 2 values as in the header, but found 1"),
        (GOOD + b"1,2,3\n", "line 3: expected 2 values as in the header, but found 3"),
        (GOOD + b"\r\n\n1,2,3\n", "line 5: expected 2 values as in the header, but found 3"),
        (
            b'user_id,item_id\n"a\nb",2\n1,2,3\n',
            "line 4: expected 2 values as in the header, but found 3",
        ),
        (GOOD + b"caf\xe9,2\n", "line 3, column user_id: the text is not UTF-8"),
        (GOOD + b"1,\xed\xa0\x80\n", "line 3, column item_id: the text is not UTF-8"),
        (b"user\xff,item_id\n1,2\n", "line 1: the header is not UTF-8"),
        ("user_id,item_id\n1,2\n".encode("utf-16"), "line 1: the file is UTF-16"),
        (GOOD + b'1,"2\n3,4\n', 'line 3: a quote (") is never closed'),
        (b"user_id,item_id,other\n1,2,3\n" + b'1,2,"3\n4,5,6\n', 'line 3: a quote (") is never'),
        (
            GOOD + b"1,2\n" * 99 + b"1," + b"x" * 3_000_000,
            "line 101: this line is followed by a line of more",
        ),
        (GOOD + b'1,"' + b"x\n" * 2_000_000, "line 2: this line is followed by a line of more"),
        (GOOD + b"1," + b"x" * 257, "line 3, column item_id: an id must be text of 1 to 256 bytes"),
        (GOOD + b'1,""\n', "line 3, column item_id: an id must be text of 1 to 256 bytes, not ''"),
        (b"user_id,item_id,timestamp\n1,2,nan\n", "line 2, column timestamp"),
        (b"user_id,item_id,timestamp\n1,2,inf\n", "line 2, column timestamp"),
        (b"user_id,item_id,timestamp\n1,2," + b"9" * 400, "line 2, column timestamp"),
        (b"user_id,item_id,timestamp\n1,2,18446744073709551616\n", "line 2, column timestamp"),
        (b"user_id,item_id,timestamp\n1,2,3\n1,2,2023-02-30\n", "line 3, column timestamp"),
        (b"user_id,item_id,rating\n1,2,3\n1,2,-inf\n", "line 3, column rating"),
        (b"user_id,item_id,rating\n1,2,1e39\n", "line 2, column rating"),
        (b"user_id,item_id,rating\n1,2,\n", "line 2, column rating"),
    ],
)
def test_run_reports_the_place_of_a_problem_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path, models_dir = tmp_path / "clicks.csv", tmp_path / "models"
    path.write_bytes(content)
    code = cli.main(["run", "--interactions", str(path), "--models-dir", str(models_dir)])
    printed = capsys.readouterr().err
    assert code == 1
    assert printed.startswith(f"error: {path}")
    assert message in printed
    assert printed.count("\n") == 1
    assert not models_dir.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfuser_id,item_id\n1,2\n",
        b"user_id,item_id\r\n1,2\r\n",
        b"user_id,item_id\r1,2\r",
        b'"user_id","item_id"\n"1","2"',
        b"item_id,user_id\n2,1\n",
        b"\nuser_id,item_id\n\n1,2\n\n",
        b"user_id,other,item_id,other\n1,3,2,4\n",
    ],
)
def test_common_csv_dialects_are_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clicks.csv"
    path.write_bytes(content)
    found = files.load(path)
    assert (found.user_ids.tolist(), found.item_ids.tolist()) == (["1"], ["2"])


def test_quotes_zeros_and_line_breaks_are_part_of_an_id(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_bytes(b'user_id,item_id\n"a,""b""",x\0y\n"c\r\nd","5"" disk"\n')
    found = files.load(path)
    assert found.user_ids.tolist() == ['a,"b"', "c\r\nd"]
    assert found.item_ids.tolist() == ["x\0y", '5" disk']


def test_dates_of_any_year_become_seconds(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text("user_id,item_id,timestamp\n1,2,9999-12-31\n1,3,0001-01-01T00:00:00Z\n1,4,7\n")
    found = files.load(path).interactions.timestamps
    assert found is not None
    assert found.tolist() == [253_402_214_400, -62_135_596_800, 7]


_cells = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "nan", "inf", "-1", "1e400", "9" * 30, "1970-01-01", "\0", '"', "é" * 129]
    ),
)


@settings(max_examples=300)
@given(
    header=st.permutations(["user_id", "item_id", "timestamp", "rating"]),
    rows=st.lists(st.lists(_cells, min_size=1, max_size=5), max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    broken=st.one_of(st.none(), st.tuples(st.integers(0, 200), st.binary(max_size=3))),
)
def test_random_csv_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    header: list[str],
    rows: list[list[str]],
    end: str,
    broken: tuple[int, bytes] | None,
) -> None:
    path = tmp_path_factory.mktemp("csv") / "clicks.csv"
    text = end.join(",".join(row) for row in [header, *rows])
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if broken:
        data[broken[0] : broken[0]] = broken[1]
    path.write_bytes(data)
    is_refused(files.load, path)
    is_refused(files.load_item_ids, path)
    is_refused(lambda path: files.load_items(path, ["rating"]), path)


_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@settings(max_examples=100)
@given(rows=st.lists(st.tuples(_ids, _ids), min_size=1, max_size=5))
def test_ids_survive_a_csv_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "clicks.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("user_id", "item_id"), *rows])
    found = files.load(path)
    pairs = found.interactions
    assert rows == list(zip(found.user_ids[pairs.users], found.item_ids[pairs.items], strict=True))
