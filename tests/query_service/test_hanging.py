"""A model server that takes requests and never answers opens the breaker, whatever the load."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc
import pytest

from query_service.backend import batching as joining
from query_service.backend import circuit_breaker as breaker
from query_service.backend.batching import JoiningModel
from query_service.backend.circuit_breaker import BreakingModel
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerUnavailable, OutOfTime
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service
from tests.query_service.test_metrics import free_port, scrape
from tools.waiting import until

_TIMEOUT_S = 1.5 * breaker.FAIR_TIME_S
_PAUSE_S = 0.4


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a busy machine may take from one step to the next."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", _PAUSE_S)


class Hanging:
    """Ends by its deadline as a call of gRPC does, or only if it is cancelled."""

    def __init__(self) -> None:
        self.given_s: list[float] = []
        self.ends = False

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        del kind, queries, depths
        self.given_s.append(deadline - asyncio.get_running_loop().time())
        await asyncio.sleep(self.given_s[-1] if self.ends else 60.0)
        raise OutOfTime("Deadline Exceeded")


Test = Callable[[Hanging, BreakingModel, JoiningModel], Awaitable[None]]


def _run(test: Test) -> None:
    async def body() -> None:
        model = Hanging()
        breaking = BreakingModel(model)
        await test(model, breaking, JoiningModel(breaking, check=breaking.check))

    asyncio.run(body())


async def _ask(joined: JoiningModel, seconds: float = _TIMEOUT_S) -> RankedItems:
    deadline = asyncio.get_running_loop().time() + seconds
    return await joined.fetch(Query(QueryKind.USER, "u", 1), 1, deadline)


async def _open(model: Hanging, joined: JoiningModel) -> None:
    for _ in range(breaker.FAILURES):
        with pytest.raises(OutOfTime):
            await _ask(joined)
        await asyncio.sleep(2 * joining._ENDING_S)
    assert len(model.given_s) == breaker.FAILURES
    with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
        await _ask(joined)


def test_a_predict_that_never_ends_counts() -> None:
    async def test(model: Hanging, breaking: BreakingModel, joined: JoiningModel) -> None:
        await _open(model, joined)
        await asyncio.sleep(_PAUSE_S)
        with pytest.raises(OutOfTime):
            await _ask(joined)
        assert len(model.given_s) == breaker.FAILURES + 1, "one has tried"
        await asyncio.sleep(1.5 * joining._ENDING_S)
        with pytest.raises(ModelServerUnavailable):
            breaking.check()
        await asyncio.sleep(2 * _PAUSE_S)
        breaking.check()

    _run(test)


def test_a_trial_that_nobody_wants_any_more_leaves_room_for_another() -> None:
    async def test(model: Hanging, breaking: BreakingModel, joined: JoiningModel) -> None:
        await _open(model, joined)
        await asyncio.sleep(_PAUSE_S)
        trying = asyncio.create_task(_ask(joined, 5.0))
        await asyncio.sleep(0.01)
        with pytest.raises(ModelServerUnavailable):
            breaking.check()
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
        await asyncio.sleep(0.01)
        breaking.check()

    _run(test)


def test_what_had_to_wait_for_one_that_hangs_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MAX_ROWS", 1)

    async def test(model: Hanging, breaking: BreakingModel, joined: JoiningModel) -> None:
        del breaking
        model.ends = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        asking = []
        unavailable = False
        # One every 25 ms, so that the next in line always has 25 ms left.
        while not unavailable and loop.time() - began < 3:
            task = asyncio.create_task(_ask(joined))
            asking.append(task)
            await asyncio.sleep(0.025)
            unavailable = task.done() and isinstance(task.exception(), ModelServerUnavailable)
        assert unavailable
        assert min(model.given_s) < breaker.FAIR_TIME_S
        await asyncio.gather(*asking, return_exceptions=True)

    _run(test)


@pytest.mark.parametrize("who", ["caller", "service"])
def test_the_last_resort_comes_at_once(
    serve: Callable[..., Service],
    model_server: FakeModelServer,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 10.0)
    model_server.known = False
    port = free_port()
    limit_s = 0.3 if who == "service" else 5.0
    service = serve(fallback="popular", timeout_s=limit_s, metrics_port=port)
    until(lambda: model_server.remaining_s)

    def ask(timeout_s: float) -> grpc.StatusCode | None:
        try:
            service.stub.Retrieve(pb.RetrieveRequest(user_id="u"), timeout=timeout_s)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[no-any-return, attr-defined]
        return None

    assert ask(5.0) is None, "by now it has got the list"
    model_server.delay_s = 5.0
    timeout_s = 5.0 if who == "service" else 0.3
    for _ in range(breaker.FAILURES):
        assert ask(timeout_s) is grpc.StatusCode.DEADLINE_EXCEEDED
    # The last Predict may end a moment after its caller has gone.
    until(lambda: sum(_predicts(port)) == breaker.FAILURES)
    began = time.monotonic()
    assert ask(5.0) is None
    assert time.monotonic() - began < 2
    # Late by more than some milliseconds, on a busy machine, one has been cancelled.
    late, cancelled = _predicts(port)
    assert late > cancelled
    found = scrape(port)
    assert found["shortlist_fallbacks_total"] == 1


def _predicts(port: int) -> tuple[float, float]:
    found = scrape(port)
    return (
        found['shortlist_predicts_total{status="DEADLINE_EXCEEDED"}'],
        found['shortlist_predicts_total{status="CANCELLED"}'],
    )
