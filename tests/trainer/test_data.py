import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import files, movielens, source, synthetic
from trainer.data.types import DataError, DataUnavailable


def test_movielens_keys_items_by_id(ml_100k: Path) -> None:
    data = movielens.load(ml_100k)
    assert (len(data.user_ids), len(data.item_ids), len(data.interactions)) == (943, 1682, 100_000)
    assert len(set(data.titles)) == 1664, "18 titles occur twice"
    # The first line of u.data: user 196, item 242, at 881250949.
    first = data.interactions
    assert data.user_ids[first.users[0]] == "196"
    assert data.titles[first.items[0]] == "Kolya (1996)"
    assert first.timestamps is not None
    assert first.timestamps[0] == 881250949


def test_movielens_says_which_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("")
    with pytest.raises(DataError, match=r"u\.item, u\.user not found"):
        movielens.load(tmp_path)


@pytest.fixture
def small_movielens(tmp_path: Path) -> Path:
    directory = tmp_path / "ml-100k"
    directory.mkdir()
    (directory / "u.data").write_text("1\t2\t5\t100\n")
    flags = "|".join("0" * 19)
    (directory / "u.item").write_bytes(
        b"".join(b"%d|Caf\xe9|01-Jan-1995||url|%s\n" % (i, flags.encode()) for i in (1, 2))
    )
    (directory / "u.user").write_text("1|24|M|technician|85711\n")
    return directory


def test_movielens_names_the_line_that_is_wrong(small_movielens: Path) -> None:
    assert movielens.load(small_movielens).titles.tolist() == ["Café", "Café"]
    (small_movielens / "u.data").write_text("1\t2\t5\t100\n1\t9\t5\t100\n")
    with pytest.raises(DataError, match=r"u\.data, line 2: item_id '9' is unknown"):
        movielens.load(small_movielens)
    (small_movielens / "u.data").write_text("1\t2\t5\n")
    with pytest.raises(DataError, match=r"u\.data, line 1: 3 fields, not 4"):
        movielens.load(small_movielens)


@pytest.fixture
def archive(small_movielens: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A web server with the archive: its URL and SHA-256."""
    path = tmp_path / "site" / "small.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as made:
        for file in small_movielens.iterdir():
            made.write(file, f"ml-100k/{file.name}")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (
            f"http://127.0.0.1:{server.server_port}/small.zip",
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        server.shutdown()


def test_movielens_is_downloaded_once(archive: tuple[str, str], tmp_path: Path) -> None:
    url, sha256 = archive
    target = tmp_path / "download"
    assert len(movielens.load(download_dir=target, url=url, sha256=sha256).interactions) == 1
    again = movielens.load(download_dir=target, url="http://127.0.0.1:1/", sha256=sha256)
    assert len(again.interactions) == 1


def test_another_archive_is_refused(archive: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="hash"):
        movielens.load(download_dir=tmp_path / "download", url=archive[0], sha256="0" * 64)
    assert not (tmp_path / "download" / "ml-100k").exists()


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="--data-dir"):
        movielens.load(download_dir=tmp_path, url="http://127.0.0.1:1/ml-100k.zip")


def test_synthetic_has_its_structure() -> None:
    data = synthetic.load(users=300, items=500, interactions=9_000, tastes=4, seed=3)
    rows = data.interactions
    assert data.user_features is not None
    assert data.item_features is not None
    user_taste = data.user_features["taste"].to_numpy()
    item_taste = data.item_features["taste"].to_numpy()
    own = np.mean(user_taste[rows.users] == item_taste[rows.items])
    swapped = np.mean(user_taste[rows.items % 300] == item_taste[rows.users])
    assert own > 0.6
    assert swapped < 0.4
    counts = np.sort(np.bincount(rows.items, minlength=500))[::-1]
    assert counts[:50].sum() > 0.3 * len(rows), "a tenth of the items has a third of the rows"
    assert len(np.unique(rows.users.astype(np.int64) * 500 + rows.items)) == len(rows)
    assert rows.timestamps is not None
    assert (np.diff(rows.timestamps) >= 0).all()
    same = synthetic.load(users=300, items=500, interactions=9_000, tastes=4, seed=3)
    assert np.array_equal(same.interactions.items, rows.items)


def test_csv_ids_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_bytes(b"\xef\xbb\xbfuser_id,item_id,timestamp\n007,NA,1970-01-02\n7,1.0,5\n")
    data = files.load(path)
    assert data.user_ids.tolist() == ["007", "7"]
    assert data.item_ids.tolist() == ["NA", "1.0"]
    assert data.interactions.timestamps is not None
    assert data.interactions.timestamps.tolist() == [86400, 5]


def test_items_and_users_files(tmp_path: Path) -> None:
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


def test_parquet_numbers_are_read_as_strings(tmp_path: Path) -> None:
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
        ("user,item_id\n1,2\n", "no column user_id; found: user, item_id"),
        ("user_id,item_id\n1,2\n,2\n", "line 3, column user_id"),
        (f"user_id,item_id\n1,{'x' * 257}\n", "line 2, column item_id"),
        ("user_id,item_id,timestamp\n1,2,soon\n", "line 2, column timestamp"),
        ("user_id,item_id\n1,2\n1,2,3\n", "line 3"),
        ("user_id,item_id\n1,2,3\n1,2,3\n", "line 2: 3 values, the header has 2 columns"),
    ],
)
def test_a_bad_csv_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        files.load(path)


def test_other_bad_files(tmp_path: Path) -> None:
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


@settings(max_examples=50, deadline=None)
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


def test_auto_falls_back_with_a_notice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def away(*_: object, **__: object) -> None:
        raise DataUnavailable("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(movielens, "load", away)
    notices: list[str] = []
    assert source.load("auto", notice=notices.append).name == "synthetic"
    assert "SYNTHETIC" in notices[0]
    with pytest.raises(DataError, match="movielens-100k, synthetic"):
        source.load("movielens", notice=notices.append)
