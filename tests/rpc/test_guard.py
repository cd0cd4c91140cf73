"""The guard admits calls by their token and rate limit, and reloads the token file."""

import asyncio
import logging
import tracemalloc
from pathlib import Path

import pytest

from rpc.errors import RateLimited, Unauthenticated, UnusableFile
from rpc.guard import Guard
from tests.rpc.test_tokens import table

_WEB, _BATCH, _NEW = "a-token-of-web", "a-token-of-batch", "the-new-token-of-web"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(table("web", _WEB) + table("batch", _BATCH))
    return path


def _metadata(token: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "x"), ("authorization", f"Bearer {token}")]


def test_missing_file_is_an_error() -> None:
    with pytest.raises(UnusableFile, match=r"nowhere\.toml: No such file or directory"):
        Guard("nowhere.toml")


def test_unusable_file_keeps_the_previous_tokens(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    guard = Guard(str(file))
    for broken in (b"[web", b"", b"\xff", b"x = 1", None):
        file.unlink() if broken is None else file.write_bytes(broken)
        caplog.clear()
        for _ in range(3):
            asyncio.run(guard.reload())
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert str(file) in record.getMessage()
        guard.admit(_metadata(_WEB))
    file.write_text(table("web", _NEW))
    asyncio.run(guard.reload())
    guard.admit(_metadata(_NEW))
    with pytest.raises(Unauthenticated):
        guard.admit(_metadata(_WEB))


def test_number_of_cached_headers_is_limited(file: Path) -> None:
    guard = Guard(str(file))
    guard.admit(_metadata(_WEB))
    tracemalloc.start()
    for number in range(3000):
        guard.admit([("authorization", f"Bearer{' ' * (number + 1)}{_WEB}")])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000


def test_workers_share_a_rate_limit(file: Path) -> None:
    file.write_text(table("web", _WEB, 8))
    guard = Guard(str(file), workers=4)
    guard.admit(_metadata(_WEB))
    guard.admit(_metadata(_WEB))
    with pytest.raises(RateLimited, match="web is limited to 8 requests per second"):
        guard.admit(_metadata(_WEB))


def test_new_file_does_not_reset_rate_limits(file: Path) -> None:
    file.write_text(table("web", _WEB, 0.01))
    guard = Guard(str(file))
    guard.admit(_metadata(_WEB))
    file.write_text(table("web", _WEB, 0.01) + table("batch", _BATCH))
    asyncio.run(guard.reload())
    guard.admit(_metadata(_BATCH))
    with pytest.raises(RateLimited):
        guard.admit(_metadata(_WEB))
