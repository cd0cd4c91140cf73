"""``python -m query_service seen`` with real stores."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from query_service.cli import main as cli
from tests.query_service.conftest import write_seen
from tests.query_service.redis_server import RedisServer, needs_redis

Capture = pytest.CaptureFixture[str]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty store."""
    if request.param == "sqlite":
        write_seen(tmp_path / "seen.sqlite", {})
        yield f"sqlite:{tmp_path / 'seen.sqlite'}"
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    yield server.url


def _seen(store: str, *arguments: str) -> int:
    """Run an action of the command on a store, and return its exit status."""
    return cli.main(["seen", *arguments, "--seen-store", store])


def _show(store: str, user: str, capsys: Capture) -> list[str]:
    """Return the item ids that ``seen show`` prints."""
    capsys.readouterr()
    assert _seen(store, "show", user) == 0
    return capsys.readouterr().out.split("\n")[:-1]


def test_added_items_are_shown_until_forgotten(store: str, capsys: Capture) -> None:
    assert _seen(store, "add", "ü", "b", "é", "b") == 0
    assert capsys.readouterr().err == "recorded 3 items, of which 2 are new\n"
    assert _show(store, "ü", capsys) == ["b", "é"]
    assert _show(store, "u", capsys) == []
    assert _seen(store, "forget", "ü") == 0
    assert "erased 2 items" in capsys.readouterr().err
    assert _show(store, "ü", capsys) == []


def test_store_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_seen(tmp_path / "seen.sqlite", {"u": ["i"]})
    monkeypatch.setenv("SHORTLIST_SEEN_STORE", f"sqlite:{tmp_path / 'seen.sqlite'}")
    assert cli.main(["seen", "show", "u"]) == 0
    assert capsys.readouterr().out == "i\n"
    monkeypatch.setenv("SHORTLIST_SEEN_STORE", "")
    for action in (["show", "u"], ["add", "u", "i"], ["forget", "u"]):
        assert cli.main(["seen", *action]) == 1
        assert (
            capsys.readouterr().err
            == "error: no seen store is configured; set --seen-store or SHORTLIST_SEEN_STORE\n"
        )


def test_csv_file_is_imported(store: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "clicks.csv"
    rows = [f"u{n % 7},{n},i{n}\r\n" for n in range(2_500)]
    # The file has a byte order mark, another column, a quoted comma and an empty line.
    text = "\ufeffuser_id,timestamp,item_id\r\n" + "".join(rows) + '\r\n"a, b",1,é\r\nu0,1,i0\r\n'
    file.write_bytes(text.encode())
    for new in ("2,501", "0"):
        assert _seen(store, "import", str(file)) == 0
        assert capsys.readouterr().err == f"{file}: recorded 2,502 pairs, of which {new} are new\n"
    assert _show(store, "a, b", capsys) == ["é"]
    assert set(_show(store, "u3", capsys)) == {f"i{n}" for n in range(3, 2_500, 7)}


def test_sqlite_file_from_the_trainer_is_imported(
    store: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "from-the-trainer"
    write_seen(file, {"u1": ["é", "2"], "u2": ["1"]})
    assert _seen(store, "import", str(file)) == 0
    assert "recorded 3 pairs, of which 3 are new" in capsys.readouterr().err
    assert _show(store, "u1", capsys) == ["2", "é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ", line 1: there is no column user_id"),
        (b"user_id,item\nu,i\n", ", line 1: there is no column item_id"),
        (b"user_id,item_id\nu,i\nu\n", ", line 3: item_id must have 1 to 256 bytes, not 0"),
        (b"user_id,item_id\nu,i\nu,\n", ", line 3: item_id must have 1 to 256 bytes, not 0"),
        (b"user_id,item_id\nu,i\n,i\n", ", line 3: user_id must have 1 to 256 bytes, not 0"),
        (
            b"user_id,item_id\nu,i\nu," + b"x" * 257,
            ", line 3: item_id must have 1 to 256 bytes, not 257",
        ),
        (b"user_id,item_id\nu,i\nu,\xff\n", ", line 3: not UTF-8"),
        (b'user_id,item_id\nu,i\nu,"i\n', ", line 3: unexpected end of data"),
        (b"SQLite format 3\0 and nothing else", ": "),
        (None, ": No such file or directory"),
    ],
)
def test_nothing_is_recorded_from_an_invalid_file(
    tmp_path: Path, content: bytes | None, message: str, capsys: Capture
) -> None:
    write_seen(tmp_path / "seen.sqlite", {})
    file = tmp_path / "clicks.csv"
    if content is not None:
        file.write_bytes(content)
    store = f"sqlite:{tmp_path / 'seen.sqlite'}"
    assert _seen(store, "import", str(file)) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}{message}")
    assert _show(store, "u", capsys) == []


@needs_redis
def test_unavailable_store_is_an_error(
    redis_server: RedisServer, tmp_path: Path, capsys: Capture
) -> None:
    redis_server.kill()
    file = tmp_path / "clicks.csv"
    file.write_text("user_id,item_id\nu,i\n")
    assert _seen(redis_server.url, "import", str(file)) == 1
    assert capsys.readouterr().err == (
        "error: seen items cannot be recorded: Redis cannot be reached\n"
        "recorded 0 of 1 pairs: run the import again\n"
    )
    assert _seen(redis_server.url, "show", "u") == 1
    assert "Redis cannot be reached" in capsys.readouterr().err
    redis_server.start()


@pytest.mark.parametrize("wrong", [["show", ""], ["add", "u", "\udcff"], ["forget", "x" * 257]])
def test_invalid_id_is_an_error(tmp_path: Path, wrong: list[str], capsys: Capture) -> None:
    write_seen(tmp_path / "seen.sqlite", {})
    assert _seen(f"sqlite:{tmp_path / 'seen.sqlite'}", *wrong) == 1
    assert capsys.readouterr().err.startswith("error: the ")


def test_forgotten_user_leaves_no_trace_on_disk(tmp_path: Path, capsys: Capture) -> None:
    published = tmp_path / "versions" / "1" / "seen.sqlite"
    published.parent.mkdir(parents=True)
    write_seen(published, {"person-of-interest": ["i1", "i2"], "other": ["i1"]})
    link = tmp_path / "seen.sqlite"
    link.symlink_to(published)
    store = f"sqlite:{link}"
    assert _seen(store, "add", "person-of-interest", "i3") == 0
    # Another process may have the file of recorded items open.
    other = sqlite3.connect(f"{link}-recorded")
    assert other.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    capsys.readouterr()
    assert _seen(store, "forget", "person-of-interest") == 0
    output = capsys.readouterr().err
    assert f"{link}-recorded: erased 1 items\n{link}: erased 2 items\n" in output
    assert "the next publication restores these items" in output
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"person-of-interest" not in file.read_bytes(), file
    other.close()
    assert link.is_symlink(), "only the target of the link is replaced"
    assert _show(store, "person-of-interest", capsys) == []
    assert _show(store, "other", capsys) == ["i1"]


def test_file_that_cannot_be_erased_is_reported(tmp_path: Path, capsys: Capture) -> None:
    recorded = tmp_path / "recorded.sqlite"
    store = f"sqlite:{tmp_path / 'absent.sqlite'}?recorded={recorded}"
    assert _seen(store, "add", "u", "i") == 0
    capsys.readouterr()
    assert _seen(store, "forget", "u") == 1
    output = capsys.readouterr().err
    assert f"{recorded}: erased 1 items\n" in output
    assert "absent.sqlite: not erased: " in output
