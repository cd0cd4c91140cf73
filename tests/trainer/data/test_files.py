from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import files
from trainer.errors import DataError


def test_csv_ids_are_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_bytes(b"\xef\xbb\xbfuser_id,item_id,timestamp\n007,NA,1970-01-02\n7,1.0,5\n")
    data = files.load(path)
    assert data.user_ids.tolist() == ["007", "7"]
    assert data.item_ids.tolist() == ["NA", "1.0"]
    assert data.interactions.timestamps is not None
    assert data.interactions.timestamps.tolist() == [86400, 5]


def test_catalogue_joins_items_of_the_file_and_of_interactions(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("user_id,item_id\nu1,b\nu2,z\n")
    (tmp_path / "i.csv").write_text("item_id,title,genre\na,Alpha,x\nb,,y\n")
    pd.DataFrame({"user_id": ["u2"], "age": [30]}).to_parquet(tmp_path / "u.parquet")
    data = files.load(tmp_path / "c.csv", tmp_path / "i.csv", tmp_path / "u.parquet")
    assert data.item_ids.tolist() == ["a", "b", "z"]
    assert data.titles.tolist() == ["Alpha", "b", "z"]
    assert data.item_features is not None
    assert data.item_features["genre"].tolist()[:2] == ["x", "y"]
    assert data.user_ids.tolist() == ["u2", "u1"]
    assert data.item_ids[data.interactions.items].tolist() == ["b", "z"]


def test_parquet_numbers_become_string_ids(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    frame = pd.DataFrame({"user_id": [7, 2**60 + 1], "item_id": [1.0, 2.5]})
    frame["timestamp"] = pd.to_datetime([0, 90], unit="s")
    frame.to_parquet(path)
    data = files.load(path)
    assert data.user_ids.tolist() == ["7", str(2**60 + 1)]
    assert data.item_ids.tolist() == ["1", "2.5"]
    assert data.interactions.timestamps is not None
    assert data.interactions.timestamps.tolist() == [0, 90]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("user_id,item_id\n", "no rows"),
        ("user,item_id\n1,2\n", "has no column user_id; the columns are user, item_id"),
        ("user_id,item_id\n1,2\n,2\n", "line 3, column user_id"),
        (f"user_id,item_id\n1,{'x' * 257}\n", "line 2, column item_id"),
        ("user_id,item_id,timestamp\n1,2,soon\n", "line 2, column timestamp"),
        ("user_id,item_id\n1,2\n1,2,3\n", "line 3"),
        (
            "user_id,item_id\n1,2,3\n1,2,3\n",
            "line 2: expected 2 values as in the header, but found 3",
        ),
    ],
)
def test_malformed_csv_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        files.load(path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "c.parquet"
    broken.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"c\.parquet"):
        files.load(broken)
    latin = tmp_path / "l.csv"
    latin.write_bytes(b"user_id,item_id\ncaf\xe9,1\n")
    with pytest.raises(DataError, match=r"l\.csv"):
        files.load(latin)
    with pytest.raises(DataError, match="no such file"):
        files.load(tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"\.csv or \.parquet"):
        files.load(tmp_path / "c.json")
    (tmp_path / "good.csv").write_text("user_id,item_id\n1,2\n")
    (tmp_path / "i.csv").write_text("item_id\na\nb\na\n")
    with pytest.raises(DataError, match="line 4, column item_id: 'a' is already in line 2"):
        files.load(tmp_path / "good.csv", tmp_path / "i.csv")


_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=50)
@given(st.lists(st.tuples(_IDS, _IDS), min_size=1, max_size=20))
def test_ids_survive_csv_and_parquet(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"])
    directory = tmp_path_factory.mktemp("files")
    frame.to_parquet(directory / "c.parquet")
    data = files.load(directory / "c.parquet")
    again = zip(
        data.user_ids[data.interactions.users],
        data.item_ids[data.interactions.items],
        strict=True,
    )
    assert list(again) == rows
