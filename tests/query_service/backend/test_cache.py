"""The cache is off by default. When it is on, the answers are the same with fewer Predicts."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service, write_seen
from tools.waiting import until

Serve = Callable[..., Service]


def _ids(service: Service, **fields: object) -> list[str]:
    request = pb.RetrieveRequest(**{"user_id": "u", "max_candidates": 3, **fields})  # type: ignore[arg-type]
    return [candidate.item_id for candidate in service.stub.Retrieve(request, timeout=5).candidates]


@pytest.fixture
def cached(serve: Serve) -> Service:
    return serve(cache_size=100)


def test_cache_is_off_by_default(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve()
    assert _ids(service) == _ids(service)
    assert len(model_server.depths) == 2


def test_ranking_is_fetched_once_per_query_and_depth(
    cached: Service, model_server: FakeModelServer
) -> None:
    assert _ids(cached) == _ids(cached) == ["i0", "i1", "i2"]
    assert len(model_server.depths) == 1
    for different in ({"user_id": "v"}, {"max_candidates": 4}, {"recent_item_ids": ["i9"]}):
        _ids(cached, **different)
    model_server.ranking.append("u")
    cached.stub.Retrieve(pb.RetrieveRequest(item_id="u", max_candidates=3))
    assert len(model_server.depths) == 5, "users, depths, histories and kinds do not mix"


def test_filters_are_applied_to_cached_rankings(
    serve: Serve, model_server: FakeModelServer, tmp_path: Path
) -> None:
    path = tmp_path / "seen.sqlite"
    write_seen(path, {"u": ["i0"]})
    service = serve(cache_size=100, seen_store=f"sqlite:{path}")
    assert _ids(service, exclude_seen=True) == ["i1", "i2", "i3"]
    write_seen(path, {"u": ["i1"]})
    predicts = len(model_server.depths)
    assert _ids(service, exclude_seen=True) == ["i0", "i2", "i3"]
    assert _ids(service, exclude_item_ids=["i2"]) == ["i0", "i1", "i3"]
    assert len(model_server.depths) == predicts


def test_ranking_of_another_version_is_not_used(
    cached: Service, model_server: FakeModelServer
) -> None:
    assert _ids(cached) == ["i0", "i1", "i2"]
    model_server.version = 8
    model_server.ranking.reverse()
    # The answer for another user tells of the new version.
    assert _ids(cached, user_id="v") == ["i49", "i48", "i47"]
    assert _ids(cached) == ["i49", "i48", "i47"]
    # Without any request, the health check does.
    model_server.version = 7
    model_server.ranking.reverse()
    until(lambda: _ids(cached) == ["i0", "i1", "i2"], 5)


def test_old_ranking_is_dropped(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve(cache_size=100, cache_age_s=0.3)
    _ids(service)
    predicts = len(model_server.depths)
    _ids(service)
    assert len(model_server.depths) == predicts
    time.sleep(0.35)
    _ids(service)
    assert len(model_server.depths) == predicts + 1


def test_least_recently_used_ranking_is_dropped(
    serve: Serve, model_server: FakeModelServer
) -> None:
    service = serve(cache_size=2)
    for user in ("a", "b", "a", "c", "a", "b"):
        _ids(service, user_id=user)
    # Misses: a, b, then c, which replaces b, and b again.
    assert len(model_server.depths) == 4


def test_hits_and_misses_are_logged_at_shutdown(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    service = serve(cache_size=2)
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            _ids(service)
        service.stop()
    assert "cache: 3 hits, 1 misses" in caplog.text
