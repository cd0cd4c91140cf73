"""`versions`, `promote`, `rollback`, `gc` and `verify --files-only` on fake versions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.registry.fake_versions import FILES, publish
from trainer.cli.main import main
from trainer.registry.store import Store

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Versions 1 and 2, which passed their gates, and 3, which did not. Version 2 is served."""
    store = Store(tmp_path / "models")
    for passed in (True, True, False):
        publish(store, passed=passed)
    return store


@pytest.fixture
def command(store: Store, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command on the store; returns its exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--models-dir", str(store.models_dir)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_versions_prints_a_table(command: Command) -> None:
    code, table, _ = command("versions")
    assert code == 0
    rows = [line.split() for line in table.splitlines()]
    assert rows[1][:5] == ["1", "2026-01-02", "03:04", "run", "rollback"]
    assert rows[2][4:7] == ["served", "passed", "0.5000"]
    assert rows[3][4] == "failed"


def test_versions_prints_json(command: Command) -> None:
    versions = json.loads(command("versions", "--json")[1])
    assert [one["current"] for one in versions] == [False, True, False]
    assert [one["rollback_target"] for one in versions] == [True, False, False]
    assert versions[2]["failed"] == ["a made-up quality check"]


def test_promote_and_rollback(command: Command) -> None:
    assert command("promote", "3")[::2] == (
        1,
        "error: version 3 did not pass its gate: a made-up quality check. "
        'Add --reason "TEXT" to serve it anyway\n',
    )
    assert command("promote", "3", "--reason", "so")[1] == "Version 3 is served instead of 2\n"
    assert command("rollback")[1] == "Version 2 is served instead of 3\n"
    assert command("rollback", "--to", "7")[2].startswith("error: no version 7 in")


def test_verify_names_a_changed_file(command: Command, store: Store) -> None:
    assert command("verify", "--files-only")[1] == f"Version 2: {FILES} files are as published\n"
    (store.directory(3) / "retrieval" / "3" / "saved_model.pb").write_text("4")
    code, _, error = command("verify", "3", "--files-only")
    assert code == 1
    assert "retrieval/3/saved_model.pb is not the file that was published" in error


def test_gc_prints_what_was_removed(command: Command, store: Store) -> None:
    assert command("gc")[1] == "Removed versions: none. Remaining versions: 1, 2, 3\n"
    publish(store)
    assert command("gc", "--keep", "1")[1] == "Removed versions: 1, 3. Remaining versions: 2, 4\n"


@pytest.mark.parametrize("name", ["versions", "rollback", "gc", "verify"])
def test_missing_directory_is_an_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--models-dir", str(tmp_path / "absent")]) == 1
    assert "absent: no such directory" in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    "arguments", [["promote", "0"], ["promote", "1", "--reason", " "], ["gc", "--keep", "0"]]
)
def test_invalid_argument_is_a_usage_error(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*arguments, "--models-dir", str(tmp_path)])
    assert raised.value.code == 2
