import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from trainer.data import movielens
from trainer.errors import DataError, DataUnavailable


def test_items_are_identified_by_id(ml_100k: Path) -> None:
    data = movielens.load(ml_100k)
    assert (len(data.user_ids), len(data.item_ids), len(data.interactions)) == (943, 1682, 100_000)
    assert len(set(data.titles)) == 1664, "18 titles occur twice"
    # The first line of u.data: user 196, item 242, at 881250949.
    first = data.interactions
    assert data.user_ids[first.users[0]] == "196"
    assert data.titles[first.items[0]] == "Kolya (1996)"
    assert first.timestamps is not None
    assert first.timestamps[0] == 881250949


def test_missing_files_are_named(tmp_path: Path) -> None:
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


def test_malformed_line_is_named(small_movielens: Path) -> None:
    assert movielens.load(small_movielens).titles.tolist() == ["Café", "Café"]
    (small_movielens / "u.data").write_text("1\t2\t5\n")
    with pytest.raises(DataError, match=r"u\.data, line 1: expected 4 fields, but found 3"):
        movielens.load(small_movielens)


@pytest.fixture
def archive(small_movielens: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Serve the archive over HTTP; yields its URL and SHA-256."""
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


def test_data_set_is_downloaded_once(archive: tuple[str, str], tmp_path: Path) -> None:
    url, sha256 = archive
    target = tmp_path / "download"
    assert len(movielens.load(download_dir=target, url=url, sha256=sha256).interactions) == 1
    again = movielens.load(download_dir=target, url="http://127.0.0.1:1/", sha256=sha256)
    assert len(again.interactions) == 1


def test_archive_with_another_checksum_is_refused(archive: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="hash"):
        movielens.load(download_dir=tmp_path / "download", url=archive[0], sha256="0" * 64)
    assert not (tmp_path / "download" / "ml-100k").exists()


def test_failed_download_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="--data-dir"):
        movielens.load(download_dir=tmp_path, url="http://127.0.0.1:1/ml-100k.zip")
