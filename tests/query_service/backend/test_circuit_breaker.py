"""The circuit breaker opens for a model server that fails or hangs, and closes when it answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from query_service.backend import batching, circuit_breaker
from query_service.backend.batch import NEAR_DEADLINE_S, BatchModel
from query_service.backend.batching import BatchingModel
from query_service.backend.circuit_breaker import (
    FAILURE_THRESHOLD,
    MIN_COUNTED_TIMEOUT_S,
    CircuitBreaker,
)
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import (
    ModelServerFault,
    ModelServerUnavailable,
    OutOfTime,
    Overloaded,
    RetrievalError,
    SignatureMissing,
)

#: Long enough for a busy machine to get from one step of a test to the next.
_PAUSE_S = 0.4
_QUERY = Query(QueryKind.USER, "u", 1)


class Model:
    """Answers, fails, or hangs.

    Attributes:
        hangs: ``"until deadline"``: it ends by its deadline as a gRPC call does; ``"for ever"``: it
            ends only when it is cancelled.
        given_s: the time until its deadline of each call.
    """

    def __init__(self) -> None:
        self.error: RetrievalError | None = None
        self.delay_s = 0.0
        self.hangs = ""
        self.given_s: list[float] = []

    @property
    def calls(self) -> int:
        return len(self.given_s)

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        del kind, queries
        self.given_s.append(deadline - asyncio.get_running_loop().time())
        if self.hangs:
            await asyncio.sleep(self.given_s[-1] if self.hangs == "until deadline" else 60)
            raise OutOfTime("Deadline Exceeded")
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return [RankedItems([b"i"] * depth, [0.0] * depth, True, 1) for depth in depths]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE_S", _PAUSE_S)


def _run(test: Callable[[Model, CircuitBreaker, BatchingModel], Awaitable[None]]) -> None:
    async def body() -> None:
        model = Model()
        breaker = CircuitBreaker(model)
        await test(model, breaker, BatchingModel(breaker, check=breaker.check))

    asyncio.run(body())


async def _fetch_batch(model: BatchModel, timeout_s: float = 5.0) -> Sequence[RankedItems]:
    deadline = asyncio.get_running_loop().time() + timeout_s
    return await model.fetch_batch(QueryKind.USER, [_QUERY], [1], deadline)


async def _fetch(
    model: BatchingModel, timeout_s: float = 1.5 * MIN_COUNTED_TIMEOUT_S
) -> RankedItems:
    return await model.fetch(_QUERY, 1, asyncio.get_running_loop().time() + timeout_s)


async def _fail(model: BatchModel, times: int, timeout_s: float = 5.0) -> None:
    for _ in range(times):
        with pytest.raises(RetrievalError):
            await _fetch_batch(model, timeout_s)


async def _hang_until_open(model: Model, batching_model: BatchingModel) -> None:
    for _ in range(FAILURE_THRESHOLD):
        with pytest.raises(OutOfTime):
            await _fetch(batching_model)
        await asyncio.sleep(2 * NEAR_DEADLINE_S)
    assert model.calls == FAILURE_THRESHOLD
    with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
        await _fetch(batching_model)


def test_breaker_opens_sends_trials_and_closes() -> None:
    async def test(model: Model, breaker: CircuitBreaker, _: BatchingModel) -> None:
        model.error = ModelServerUnavailable("gone")
        await _fail(breaker, FAILURE_THRESHOLD)
        assert model.calls == FAILURE_THRESHOLD
        with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
            await _fetch_batch(breaker)
        assert model.calls == FAILURE_THRESHOLD, "open: nothing is sent"
        await asyncio.sleep(_PAUSE_S)
        model.delay_s = 0.05
        await asyncio.gather(*(_fail(breaker, 1) for _ in range(5)))
        assert model.calls == FAILURE_THRESHOLD + 1, "one trial for all"
        model.error = None
        await asyncio.sleep(2 * _PAUSE_S)
        await _fetch_batch(breaker)
        await asyncio.gather(*(_fetch_batch(breaker) for _ in range(5)))
        assert model.calls == FAILURE_THRESHOLD + 7, "closed: everything is sent"

    _run(test)


def test_success_in_between_keeps_the_breaker_closed() -> None:
    async def test(model: Model, breaker: CircuitBreaker, _: BatchingModel) -> None:
        for _round in range(3):
            model.error = ModelServerUnavailable("gone")
            await _fail(breaker, FAILURE_THRESHOLD - 1)
            model.error = None
            await _fetch_batch(breaker)
        assert model.calls == 3 * FAILURE_THRESHOLD

    _run(test)


def test_error_responses_keep_the_breaker_closed() -> None:
    async def test(model: Model, breaker: CircuitBreaker, _: BatchingModel) -> None:
        for response in (Overloaded("busy"), SignatureMissing("none"), ModelServerFault("broken")):
            model.error = ModelServerUnavailable("gone")
            await _fail(breaker, FAILURE_THRESHOLD - 1)
            model.error = response
            await _fail(breaker, 1)
        assert model.calls == 3 * FAILURE_THRESHOLD

    _run(test)


def test_only_timeouts_after_a_fair_time_count() -> None:
    async def test(model: Model, breaker: CircuitBreaker, _: BatchingModel) -> None:
        model.error = OutOfTime("late")
        await _fail(breaker, 2 * FAILURE_THRESHOLD, timeout_s=MIN_COUNTED_TIMEOUT_S / 2)
        assert model.calls == 2 * FAILURE_THRESHOLD
        await _fail(breaker, FAILURE_THRESHOLD)
        await _fail(breaker, 1)
        assert model.calls == 3 * FAILURE_THRESHOLD

    _run(test)


def test_pauses_grow_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(circuit_breaker, "MAX_PAUSE_S", 0.04)

    async def test(model: Model, breaker: CircuitBreaker, _: BatchingModel) -> None:
        model.error = ModelServerUnavailable("gone")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            await _fail(breaker, 1)
            await asyncio.sleep(0.001)
        # A trial every 20 to 40 ms, and whatever a busy machine adds.
        assert 10 <= model.calls - FAILURE_THRESHOLD <= 55

    _run(test)


def test_predicts_that_time_out_open_the_breaker() -> None:
    async def test(model: Model, _: CircuitBreaker, batching_model: BatchingModel) -> None:
        model.hangs = "until deadline"
        for _call in range(FAILURE_THRESHOLD):
            with pytest.raises(OutOfTime):
                await _fetch(batching_model)
        with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
            await _fetch(batching_model, 5.0)
        assert model.calls == FAILURE_THRESHOLD

    _run(test)


def test_predicts_that_never_end_open_the_breaker() -> None:
    async def test(model: Model, breaker: CircuitBreaker, batching_model: BatchingModel) -> None:
        model.hangs = "for ever"
        await _hang_until_open(model, batching_model)
        await asyncio.sleep(_PAUSE_S)
        with pytest.raises(OutOfTime):
            await _fetch(batching_model)
        assert model.calls == FAILURE_THRESHOLD + 1, "a trial was sent"
        await asyncio.sleep(1.5 * NEAR_DEADLINE_S)
        with pytest.raises(ModelServerUnavailable):
            breaker.check()
        await asyncio.sleep(2 * _PAUSE_S)
        breaker.check()

    _run(test)


def test_cancelled_trial_allows_another_one() -> None:
    async def test(model: Model, breaker: CircuitBreaker, batching_model: BatchingModel) -> None:
        model.hangs = "for ever"
        await _hang_until_open(model, batching_model)
        await asyncio.sleep(_PAUSE_S)
        trial = asyncio.create_task(_fetch(batching_model, 5.0))
        await asyncio.sleep(0.01)
        with pytest.raises(ModelServerUnavailable):
            breaker.check()
        trial.cancel()
        await asyncio.gather(trial, return_exceptions=True)
        await asyncio.sleep(0.01)
        breaker.check()

    _run(test)


def test_no_query_waits_for_the_trial() -> None:
    async def test(model: Model, breaker: CircuitBreaker, batching_model: BatchingModel) -> None:
        model.error = ModelServerUnavailable("gone")
        await _fail(breaker, FAILURE_THRESHOLD)
        await asyncio.sleep(_PAUSE_S)
        model.hangs = "until deadline"
        trial = asyncio.create_task(_fetch(batching_model, 0.5))
        await asyncio.sleep(0.05)
        for _call in range(5):
            with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
                await _fetch(batching_model, 0.5)
        assert not trial.done()
        with pytest.raises(OutOfTime):
            await trial

    _run(test)


def test_timeouts_after_waiting_for_a_hanging_predict_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "MAX_QUERIES", 1)

    async def test(model: Model, _: CircuitBreaker, batching_model: BatchingModel) -> None:
        model.hangs = "until deadline"
        loop = asyncio.get_running_loop()
        began = loop.time()
        tasks = []
        unavailable = False
        # One query every 25 ms, so that the next in the queue always has 25 ms left.
        while not unavailable and loop.time() - began < 3:
            task = asyncio.create_task(_fetch(batching_model))
            tasks.append(task)
            await asyncio.sleep(0.025)
            unavailable = task.done() and isinstance(task.exception(), ModelServerUnavailable)
        assert unavailable
        assert min(model.given_s) < MIN_COUNTED_TIMEOUT_S
        await asyncio.gather(*tasks, return_exceptions=True)

    _run(test)


def test_callers_that_cancel_early_do_not_open_the_breaker() -> None:
    async def test(model: Model, _: CircuitBreaker, batching_model: BatchingModel) -> None:
        model.hangs = "until deadline"
        for _call in range(2 * FAILURE_THRESHOLD):
            task = asyncio.create_task(_fetch(batching_model, 5.0))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0)
        assert model.calls == 2 * FAILURE_THRESHOLD

    _run(test)
