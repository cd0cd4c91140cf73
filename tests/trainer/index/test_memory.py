"""The warning about memory comes before an index is built."""

from pathlib import Path

import pytest

from trainer.config import IndexConfig
from trainer.index import kinds, memory

ITEMS, DIM = 10_000_000, 32


def test_estimate_grows_with_the_catalogue() -> None:
    builder = kinds.builder(IndexConfig())
    needed = memory.bytes_to_build(builder, ITEMS, DIM)
    assert needed > ITEMS * DIM * 4
    assert memory.bytes_to_build(builder, 2 * ITEMS, DIM) > 1.8 * needed
    assert needed > memory.bytes_to_serve(builder, ITEMS, DIM) > ITEMS * DIM * 4


def test_warning_says_how_much_memory_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = kinds.builder(IndexConfig())
    needed = memory.bytes_to_build(builder, ITEMS, DIM)
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    assert memory.warning(builder, ITEMS, DIM) is None
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    assert f"needs about {needed / 2**30:.1f} GiB" in (memory.warning(builder, ITEMS, DIM) or "")


def test_available_memory_is_that_of_the_machine_without_a_container_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_container(tmp_path, monkeypatch, limit="max", used="34")
    assert 10**8 < memory.available_bytes() < 10**14


def test_available_memory_respects_the_container_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_container(tmp_path, monkeypatch, limit="1234", used="34")
    assert memory.available_bytes() == 1200


def _set_container(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, limit: str, used: str
) -> None:
    for name, text in (("_CGROUP_LIMIT", limit), ("_CGROUP_USED", used)):
        path = directory / name
        path.write_text(f"{text}\n")
        monkeypatch.setattr(memory, name, path)
