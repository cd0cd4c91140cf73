"""The cache: off by default; when on, the same answers with fewer Predicts."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service, write_seen

Serve = Callable[..., Service]


def _ids(service: Service, **fields: object) -> list[str]:
    request = pb.RetrieveRequest(**{"user_id": "u", "max_candidates": 3, **fields})  # type: ignore[arg-type]
    return [one.item_id for one in service.stub.Retrieve(request, timeout=5).candidates]


@pytest.fixture
def cached(serve: Serve, model_server: FakeModelServer) -> Service:
    service = serve(cache_size=100)
    model_server.depths.clear()
    return service


def test_by_default_every_request_is_asked(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve()
    assert _ids(service) == _ids(service)
    assert len(model_server.depths) == 2


def test_a_row_is_asked_for_once(cached: Service, model_server: FakeModelServer) -> None:
    assert _ids(cached) == _ids(cached) == ["i0", "i1", "i2"]
    assert len(model_server.depths) == 1
    for different in ({"user_id": "v"}, {"max_candidates": 4}, {"recent_item_ids": ["i9"]}):
        _ids(cached, **different)
    request = pb.RetrieveRequest(item_id="u", max_candidates=3)
    model_server.ranking.append("u")
    cached.stub.Retrieve(request)
    assert len(model_server.depths) == 5, "another user, depth, history or kind is another row"


def test_exclusions_are_applied_anew(
    serve: Serve, model_server: FakeModelServer, tmp_path: Path
) -> None:
    path = tmp_path / "seen.sqlite"
    write_seen(path, {"u": ["i0"]})
    service = serve(cache_size=100, seen_store=f"sqlite:{path}")
    assert _ids(service, exclude_seen=True) == ["i1", "i2", "i3"]
    write_seen(path, {"u": ["i1"]})
    asked = len(model_server.depths)
    assert _ids(service, exclude_seen=True) == ["i0", "i2", "i3"]
    assert _ids(service, exclude_item_ids=["i2"]) == ["i0", "i1", "i3"]
    assert len(model_server.depths) == asked


def test_a_row_is_not_served_across_versions(
    cached: Service, model_server: FakeModelServer
) -> None:
    assert _ids(cached) == ["i0", "i1", "i2"]
    model_server.version = 8
    model_server.ranking.reverse()
    # Another user's answer says that there is a new version.
    assert _ids(cached, user_id="v") == ["i49", "i48", "i47"]
    assert _ids(cached) == ["i49", "i48", "i47"]
    # So does the watch over the model server, where nobody asks.
    model_server.version = 7
    model_server.ranking.reverse()
    ends = time.monotonic() + 5
    while _ids(cached) != ["i0", "i1", "i2"]:
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_row_is_forgotten_with_age(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve(cache_size=100, cache_age_s=0.3)
    _ids(service)
    asked = len(model_server.depths)
    _ids(service)
    assert len(model_server.depths) == asked
    time.sleep(0.35)
    _ids(service)
    assert len(model_server.depths) == asked + 1


def test_no_more_rows_are_kept_than_allowed(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve(cache_size=2)
    for user in ("a", "b", "a", "c", "a", "b"):
        _ids(service, user_id=user)
    # a, b; a is here; c drives out b; a is here; b again.
    assert len(model_server.depths) == 4


def test_the_hit_rate_is_logged_at_the_end(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    service = serve(cache_size=2)
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            _ids(service)
        service.stop()
    assert "cache: 3 hits of 4 (75 %)" in caplog.text
