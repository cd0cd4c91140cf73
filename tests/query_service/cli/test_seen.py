"""``python -m query_service seen``, on real stores."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from query_service.cli import main as cli
from tests.query_service.conftest import write_seen
from tests.query_service.redis_server import RedisServer, needs_redis

RUN = pytest.CaptureFixture[str]


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
    return cli.main(["seen", *arguments, "--seen-store", store])


def _shown(store: str, user: str, capsys: RUN) -> list[str]:
    capsys.readouterr()
    assert _seen(store, "show", user) == 0
    return capsys.readouterr().out.split("\n")[:-1]


def test_added_items_are_shown_until_forgotten(store: str, capsys: RUN) -> None:
    assert _seen(store, "add", "ü", "b", "é", "b") == 0
    assert capsys.readouterr().err == "recorded 3, of which 2 are new\n"
    assert _shown(store, "ü", capsys) == ["b", "é"]
    assert _shown(store, "u", capsys) == []
    assert _seen(store, "forget", "ü") == 0
    assert "erased 2 items" in capsys.readouterr().err
    assert _shown(store, "ü", capsys) == []


def test_store_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: RUN
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


def test_csv_file_is_imported(store: str, tmp_path: Path, capsys: RUN) -> None:
    file = tmp_path / "clicks.csv"
    rows = [f"u{n % 7},{n},i{n}\r\n" for n in range(2_500)]
    # More columns, in any order; a byte order mark; a quoted comma; an empty line.
    text = "\ufeffuser_id,timestamp,item_id\r\n" + "".join(rows) + '\r\n"a, b",1,é\r\nu0,1,i0\r\n'
    file.write_bytes(text.encode())
    for new in ("2,501", "0"):
        assert _seen(store, "import", str(file)) == 0
        assert capsys.readouterr().err == f"{file}: recorded 2,502, of which {new} are new\n"
    assert _shown(store, "a, b", capsys) == ["é"]
    assert set(_shown(store, "u3", capsys)) == {f"i{n}" for n in range(3, 2_500, 7)}


def test_sqlite_file_of_the_trainer_is_imported(store: str, tmp_path: Path, capsys: RUN) -> None:
    file = tmp_path / "of-the-trainer"
    write_seen(file, {"u1": ["é", "2"], "u2": ["1"]})
    assert _seen(store, "import", str(file)) == 0
    assert "recorded 3, of which 3 are new" in capsys.readouterr().err
    assert _shown(store, "u1", capsys) == ["2", "é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ", line 1: there is no column user_id"),
        (b"user_id,item\nu,i\n", ", line 1: there is no column item_id"),
        (b"user_id,item_id\nu,i\nu\n", ", line 3: 1 values, but 2 in the header"),
        (b"user_id,item_id\nu,i\nu,\n", ", line 3: item_id has 0 bytes: an id has 1 to 256"),
        (b"user_id,item_id\nu,i\n,i\n", ", line 3: user_id has 0 bytes: an id has 1 to 256"),
        (b"user_id,item_id\nu,i\nu," + b"x" * 257, ", line 3: item_id has 257 bytes: an id "),
        (b"user_id,item_id\nu,i\nu,\xff\n", ", line 3: not UTF-8"),
        (b'user_id,item_id\nu,i\nu,"i\n', ", line 3: unexpected end of data"),
        (b"SQLite format 3\0 and no more", ": "),
        (None, ": No such file or directory"),
    ],
)
def test_nothing_of_a_wrong_file_is_recorded(
    tmp_path: Path, content: bytes | None, message: str, capsys: RUN
) -> None:
    write_seen(tmp_path / "seen.sqlite", {})
    file = tmp_path / "clicks.csv"
    if content is not None:
        file.write_bytes(content)
    store = f"sqlite:{tmp_path / 'seen.sqlite'}"
    assert _seen(store, "import", str(file)) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}{message}")
    assert _shown(store, "u", capsys) == []


@needs_redis
def test_unavailable_store_is_an_error(
    redis_server: RedisServer, tmp_path: Path, capsys: RUN
) -> None:
    redis_server.kill()
    file = tmp_path / "clicks.csv"
    file.write_text("user_id,item_id\nu,i\n")
    assert _seen(redis_server.url, "import", str(file)) == 1
    assert capsys.readouterr().err == (
        "error: seen items cannot be recorded: Redis cannot be reached\n"
        "recorded 0 of 1: repeat the import\n"
    )
    assert _seen(redis_server.url, "show", "u") == 1
    assert "Redis cannot be reached" in capsys.readouterr().err
    redis_server.start()


@pytest.mark.parametrize("wrong", [["show", ""], ["add", "u", "\udcff"], ["forget", "x" * 257]])
def test_invalid_id_is_an_error(tmp_path: Path, wrong: list[str], capsys: RUN) -> None:
    write_seen(tmp_path / "seen.sqlite", {})
    assert _seen(f"sqlite:{tmp_path / 'seen.sqlite'}", *wrong) == 1
    assert capsys.readouterr().err.startswith("error: the ")


def test_forgotten_user_leaves_no_trace_on_disk(tmp_path: Path, capsys: RUN) -> None:
    published = tmp_path / "versions" / "1" / "seen.sqlite"
    published.parent.mkdir(parents=True)
    write_seen(published, {"person-of-interest": ["i1", "i2"], "other": ["i1"]})
    link = tmp_path / "seen.sqlite"
    link.symlink_to(published)
    store = f"sqlite:{link}"
    assert _seen(store, "add", "person-of-interest", "i3") == 0
    # As another process that has the recorded file open.
    other = sqlite3.connect(f"{link}-recorded")
    assert other.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    capsys.readouterr()
    assert _seen(store, "forget", "person-of-interest") == 0
    output = capsys.readouterr().err
    assert f"{link}-recorded: erased 1 items\n{link}: erased 2 items\n" in output
    assert "the user would return at the next publication" in output
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"person-of-interest" not in file.read_bytes(), file
    other.close()
    assert link.is_symlink(), "the file it leads to is another one"
    assert _shown(store, "person-of-interest", capsys) == []
    assert _shown(store, "other", capsys) == ["i1"]


def test_place_that_cannot_be_erased_is_reported(tmp_path: Path, capsys: RUN) -> None:
    elsewhere = tmp_path / "recorded.sqlite"
    store = f"sqlite:{tmp_path / 'absent.sqlite'}?recorded={elsewhere}"
    assert _seen(store, "add", "u", "i") == 0
    capsys.readouterr()
    assert _seen(store, "forget", "u") == 1
    output = capsys.readouterr().err
    assert f"{elsewhere}: erased 1 items\n" in output
    assert "absent.sqlite: not erased: " in output
