"""``python -m query_service ask`` with a running service."""

import json
from pathlib import Path

import pytest

from query_service.cli import main as cli
from tests.query_service.conftest import FakeModelServer, Service


def test_answer_is_printed_as_a_table_or_as_json(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tmp_path / "items.csv"
    items.write_text('item_id,title\ni1,"Sun, the"\ni3,Moon\n')
    ask = ["ask", "--address", service.address, "--items", str(items), "--user", "u1", "-k", "2"]
    assert cli.main([*ask, "--exclude-seen"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rank  id  title       score",
        "   1  i1  Sun, the  -1.0000",
        "   2  i3  Moon      -3.0000",
        "from the model, version 7",
    ]
    assert cli.main([*ask, "--exclude", "i0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["origin"] == "model"
    assert answer["candidates"][0] == {
        "rank": 1,
        "item_id": "i1",
        "title": "Sun, the",
        "score": -1.0,
    }


def test_recent_items_need_a_user(
    service: Service, model_server: FakeModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["ask", "--address", service.address]
    assert cli.main([*ask, "--user", "u1", "--recent", "i5", "--recent", "i3", "-k", "1"]) == 0
    assert model_server.histories == [[["i5", "i3"]]]
    with pytest.raises(SystemExit):
        cli.main([*ask, "--item", "i1", "--recent", "i3"])
    assert "--recent can only be used with --user" in capsys.readouterr().err


def test_failed_request_is_an_error(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ask", "--address", service.address, "--item", "nothing"]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err
    assert cli.main(["ask", "--address", "127.0.0.1:1", "--user", "u"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["ask", "--item", "i1", "--exclude-seen"])
    assert "--viewer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["--user", "\udcff"], ["--user", "u", "--recent", "\udcff"], ["--user", "u", "-k", "9" * 10]],
)
def test_request_that_cannot_be_sent_is_an_error(
    service: Service, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", "--address", service.address, *wrong]) == 1
    assert capsys.readouterr().err.startswith("error: the request cannot be sent: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"id,title\n", "'item_id'"), (b"item_id,title\ni1,\xff\n", "utf-8")],
)
def test_unreadable_titles_are_an_error(
    service: Service,
    tmp_path: Path,
    content: bytes | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = tmp_path / "items.csv"
    if content is not None:
        items.write_bytes(content + b"i1,Moon\n")
    ask = ["ask", "--address", service.address, "--user", "u1", "--items", str(items)]
    assert cli.main(ask) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: titles cannot be read: {items}")
    assert message in error


def test_missing_title_is_left_empty(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\ni0\n")
    ask = ["ask", "--address", service.address, "--user", "u1", "-k", "1", "--items", str(items)]
    assert cli.main(ask) == 0
    assert capsys.readouterr().out.splitlines()[1] == "   1  i0         0.0000"
