"""Users who have seen thousands of items get exact answers from few fetches."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from query_service.core.filters import MAX_LISTED_ITEMS
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service, write_seen
from tests.query_service.redis_server import RedisServer, needs_redis

Serve = Callable[..., Service]
Fill = Callable[[dict[str, list[str]]], str]
_ITEMS = [f"i{n}" for n in range(6_000)]


@pytest.fixture(params=["sqlite", "recorded", pytest.param("redis", marks=needs_redis)])
def fill(request: pytest.FixtureRequest, tmp_path: Path) -> Fill:
    """Fill a store with seen items by user, and return its name."""

    def sqlite(seen: dict[str, list[str]]) -> str:
        write_seen(tmp_path / "seen.sqlite", seen)
        return f"sqlite:{tmp_path / 'seen.sqlite'}"

    def recorded(seen: dict[str, list[str]]) -> str:
        """Write half of the items to each of the two files."""
        name = sqlite({user: items[::2] for user, items in seen.items()})
        write_seen(
            tmp_path / "recorded.sqlite", {user: items[1::2] for user, items in seen.items()}
        )
        return f"{name}?recorded={tmp_path / 'recorded.sqlite'}"

    def redis(seen: dict[str, list[str]]) -> str:
        server: RedisServer = request.getfixturevalue("redis_server")
        for user, items in seen.items():
            server.sees(user, *items)
        return server.url

    filled: Fill = {"sqlite": sqlite, "recorded": recorded, "redis": redis}[request.param]
    return filled


@pytest.fixture
def start(serve: Serve, model_server: FakeModelServer) -> Serve:
    """Start a service, and wait until it has reached its store."""

    def started(**settings: object) -> Service:
        model_server.ranking = _ITEMS
        service = serve(**settings)
        request = pb.RetrieveRequest(user_id="nobody", exclude_seen=True)
        end_s = time.monotonic() + 10
        while service.stub.Retrieve.future(request, timeout=5).code() is not grpc.StatusCode.OK:
            assert time.monotonic() < end_s
        model_server.depths.clear()
        return service

    return started


def _ids(service: Service, user: str, k: int, **more: object) -> list[str]:
    request = pb.RetrieveRequest(user_id=user, max_candidates=k, exclude_seen=True, **more)  # type: ignore[arg-type]
    return [
        candidate.item_id for candidate in service.stub.Retrieve(request, timeout=10).candidates
    ]


def test_scattered_seen_items_need_one_shallow_fetch(
    start: Serve, model_server: FakeModelServer, fill: Fill
) -> None:
    seen = random.Random(1).sample(_ITEMS, 2_500)
    service = start(seen_store=fill({"u": seen}))
    expected = [one for one in _ITEMS if one not in set(seen)]
    assert _ids(service, "u", 50) == expected[:50]
    assert model_server.depths == [[200]]
    others = expected[:10]
    assert _ids(service, "u", 50, exclude_item_ids=others) == expected[10:60]
    assert _ids(service, "u", 50, recent_item_ids=others) == expected[10:60]


def test_seen_items_at_the_top_need_one_deeper_fetch(
    start: Serve, model_server: FakeModelServer, fill: Fill
) -> None:
    service = start(seen_store=fill({"u": _ITEMS[:5_000], "all": _ITEMS, "most": _ITEMS[:-3]}))
    assert _ids(service, "u", 50) == _ITEMS[5_000:5_050]
    assert model_server.depths == [[200], [5_050]], "the second is no deeper than necessary"
    assert _ids(service, "all", 50) == []
    assert _ids(service, "most", 50) == _ITEMS[-3:]


@pytest.mark.parametrize("count", [MAX_LISTED_ITEMS - 1, MAX_LISTED_ITEMS, MAX_LISTED_ITEMS + 1])
def test_exclusion_is_exact_around_the_limit_of_a_short_list(
    start: Serve, fill: Fill, count: int
) -> None:
    service = start(seen_store=fill({"u": _ITEMS[:count]}))
    assert _ids(service, "u", 10) == _ITEMS[count : count + 10]
    assert _ids(service, "u", 1_000) == _ITEMS[count : count + 1_000]


def test_fallback_excludes_seen_items(
    start: Serve, model_server: FakeModelServer, fill: Fill
) -> None:
    model_server.known = False
    service = start(seen_store=fill({"u": _ITEMS[:2_000]}), fallback="popular")
    assert _ids(service, "u", 10) == _ITEMS[2_000:2_010]
    model_server.stop()
    assert _ids(service, "u", 10) == _ITEMS[2_000:2_010]
