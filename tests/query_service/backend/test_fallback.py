"""With a fallback, requests get the most popular items while the model server is unavailable."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from query_service.backend import circuit_breaker
from query_service.backend.fallback import PopularItems
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import SignatureMissing
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service
from tests.query_service.telemetry.scraping import free_port, scrape
from tools.waiting import until

Serve = Callable[..., Service]
Code = grpc.StatusCode


def _code(service: Service, timeout_s: float = 5.0, user_id: str = "u") -> grpc.StatusCode:
    request = pb.RetrieveRequest(user_id=user_id, max_candidates=3)
    code: grpc.StatusCode = service.stub.Retrieve.future(request, timeout=timeout_s).code()
    return code


@pytest.fixture
def popular_only(model_server: FakeModelServer) -> FakeModelServer:
    """A model server that knows no users, so that it has a popularity ranking."""
    model_server.known = False
    return model_server


def test_fallback_is_off_by_default(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve()
    assert _code(service) is Code.OK
    model_server.stop()
    assert _code(service) is Code.UNAVAILABLE


def test_fallback_applies_all_filters(
    serve: Serve, popular_only: FakeModelServer, seen_path: Path
) -> None:
    service = serve(fallback="popular", seen_store=f"sqlite:{seen_path}")
    until(lambda: len(popular_only.remaining_s) > 0)
    assert _code(service) is Code.OK, "the ranking has been fetched by now"
    popular_only.stop()
    until(lambda: service.health() != 1)
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"user_id": "u"}, ["i0", "i1", "i2"]),
        ({"user_id": "u", "exclude_item_ids": ["i1"]}, ["i0", "i2", "i3"]),
        ({"user_id": "u1", "exclude_seen": True}, ["i1", "i3", "i5"]),
        ({"item_id": "i0"}, ["i1", "i2", "i3"]),
        ({"user_id": "u", "recent_item_ids": ["i7"]}, ["i0", "i1", "i2"]),
    ]
    for fields, expected in cases:
        request = pb.RetrieveRequest(max_candidates=3, **fields)
        response = service.stub.Retrieve(request, timeout=5)
        assert [candidate.item_id for candidate in response.candidates] == expected
        assert response.origin == pb.ORIGIN_POPULARITY
        assert response.model_version == 7
    assert _code(service, user_id="") is Code.INVALID_ARGUMENT


def test_fallback_follows_the_versions(serve: Serve, popular_only: FakeModelServer) -> None:
    service = serve(fallback="popular")
    until(lambda: len(popular_only.remaining_s) == 1)
    popular_only.ranking = ["n0", "n1"]
    popular_only.version = 8
    until(lambda: len(popular_only.remaining_s) == 2)
    assert _code(service) is Code.OK
    popular_only.stop()
    response = service.stub.Retrieve(pb.RetrieveRequest(user_id="u"), timeout=5)
    assert [candidate.item_id for candidate in response.candidates] == ["n0", "n1"]
    assert response.model_version == 8


def test_fallback_without_any_ranking_fails(serve: Serve) -> None:
    service = serve(fallback="popular", model_server="127.0.0.1:1")
    assert _code(service) is Code.UNAVAILABLE


def test_version_without_user_signature_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    class ModelWithoutUsers:
        calls = 0

        async def fetch_batch(
            self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
        ) -> Sequence[RankedItems]:
            del kind, queries, depths, deadline
            self.calls += 1
            raise SignatureMissing("no by_user")

    async def test() -> None:
        model = ModelWithoutUsers()
        popular = PopularItems(model, lambda: 7, 10)
        for _ in range(3):
            await popular.update()
        assert (model.calls, popular.ranking) == (1, None)
        assert caplog.text.count("model version 7 has no signature for users") == 1

    asyncio.run(test())


@pytest.mark.parametrize("who", ["caller", "service"])
def test_fallback_answers_at_once_while_the_model_server_hangs(
    serve: Serve, popular_only: FakeModelServer, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """The timeout is the caller's or the service's."""
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE_S", 600.0)
    port = free_port()
    service_timeout_s, caller_timeout_s = (0.3, 5.0) if who == "service" else (5.0, 0.3)
    service = serve(fallback="popular", timeout_s=service_timeout_s, metrics_port=port)
    until(lambda: popular_only.remaining_s)
    assert _code(service) is Code.OK, "the ranking has been fetched by now"
    popular_only.delay_s = 5.0
    timeouts = 'shortlist_predicts_total{status="DEADLINE_EXCEEDED"}'
    asked = 0
    while scrape(port)[timeouts] < circuit_breaker.FAILURE_THRESHOLD:
        # On a busy machine, the end of the caller may cancel the Predict before its own timeout,
        # which is no failure of the model server.
        assert _code(service, caller_timeout_s) is Code.DEADLINE_EXCEEDED
        asked += 1
        # A Predict may end a moment after its caller has.
        until(lambda: _failed_predicts(port) == asked)  # noqa: B023
    before = len(popular_only.remaining_s)
    assert _code(service) is Code.OK
    assert len(popular_only.remaining_s) == before, "the model server was not asked"
    assert scrape(port)["shortlist_fallbacks_total"] == 1


def _failed_predicts(port: int) -> float:
    samples = scrape(port)
    statuses = ("DEADLINE_EXCEEDED", "CANCELLED")
    return sum(samples[f'shortlist_predicts_total{{status="{status}"}}'] for status in statuses)
