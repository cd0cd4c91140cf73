"""Queries are batched into Predicts, and no query affects another one of its batch."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest

from query_service.backend import batching
from query_service.backend.batching import BatchingModel
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import (
    ModelServerFault,
    ModelServerUnavailable,
    OutOfTime,
    Overloaded,
    RetrievalError,
)


class Model:
    """Ranks each query's own id, repeated to the depth, while ``gate`` is set."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.depths: list[list[int]] = []
        self.deadlines: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.delay_s = 0.0
        self.cancelled = 0
        self.error: Callable[[Sequence[Query]], Exception | None] = lambda _queries: None

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        assert {query.kind for query in queries} == {kind}
        self.batches.append([query.id for query in queries])
        self.depths.append(list(depths))
        self.deadlines.append(deadline)
        try:
            await self.gate.wait()
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if error := self.error(queries):
            raise error
        return [
            RankedItems([query.id.encode()] * depth, [0.0] * depth, True, 1)
            for query, depth in zip(queries, depths, strict=True)
        ]


def _run(test: Callable[[Model, BatchingModel], Awaitable[None]], max_in_flight: int = 1) -> None:
    async def body() -> None:
        model = Model()
        await test(model, BatchingModel(model, max_in_flight))

    asyncio.run(body())


def _loop_time(seconds_from_now: float = 0.0) -> float:
    return asyncio.get_running_loop().time() + seconds_from_now


def _fetch(
    model: BatchingModel,
    name: str,
    depth: int = 1,
    timeout_s: float = 5,
    kind: QueryKind = QueryKind.USER,
) -> "asyncio.Task[RankedItems]":
    return asyncio.create_task(model.fetch(Query(kind, name, 1), depth, _loop_time(timeout_s)))


async def _let_tasks_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_queries_that_arrive_during_a_predict_share_the_next_one() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.gate.clear()
        first = _fetch(batching_model, "a")
        await _let_tasks_run()
        assert model.batches == [["a"]], "the first query must not wait for others"
        others = [_fetch(batching_model, name) for name in "bcd"]
        await _let_tasks_run()
        assert model.batches == [["a"]]
        model.gate.set()
        rankings = await asyncio.gather(first, *others)
        assert model.batches == [["a"], ["b", "c", "d"]]
        assert [ranking.item_ids for ranking in rankings] == [[b"a"], [b"b"], [b"c"], [b"d"]]

    _run(test)


def test_queries_of_one_loop_iteration_share_a_predict() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        await asyncio.gather(*(_fetch(batching_model, name) for name in "abc"))
        assert model.batches == [["a", "b", "c"]]

    _run(test)


def test_no_more_predicts_than_allowed_are_in_flight() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.gate.clear()
        tasks = []
        for name in "abcd":
            tasks.append(_fetch(batching_model, name))
            await _let_tasks_run()
        assert model.batches == [["a"], ["b"]]
        model.gate.set()
        await asyncio.gather(*tasks)
        assert model.batches == [["a"], ["b"], ["c", "d"]]

    _run(test, max_in_flight=2)


def test_kinds_and_dissimilar_depths_do_not_share_a_predict() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        await asyncio.gather(
            _fetch(batching_model, "a", 100),
            _fetch(batching_model, "b", 100, kind=QueryKind.ITEM),
            _fetch(batching_model, "c", 101),
            _fetch(batching_model, "d", 5000),
            _fetch(batching_model, "e", 100, kind=QueryKind.USER_AND_RECENT),
            _fetch(batching_model, "f", 1),
        )
        assert sorted(model.batches) == [["a", "c", "f"], ["b"], ["d"], ["e"]]

    _run(test)


def test_each_query_keeps_its_own_depth() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        rankings = await asyncio.gather(
            _fetch(batching_model, "a", 3), _fetch(batching_model, "b", 2)
        )
        assert model.depths == [[3, 2]]
        assert [len(ranking.item_ids) for ranking in rankings] == [3, 2]

    _run(test)


def test_size_of_a_batch_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        names = map(str, range(batching.MAX_QUERIES + 3))
        await asyncio.gather(*(_fetch(batching_model, name) for name in names))
        assert [len(batch) for batch in model.batches] == [batching.MAX_QUERIES, 3]
        model.batches.clear()
        monkeypatch.setattr(batching, "MAX_RANKED_ITEMS", 40_000)
        depths = [9000, 8500, 10_000, 9000, 9000, 16_000]
        await asyncio.gather(
            *(_fetch(batching_model, str(n), depth) for n, depth in enumerate(depths))
        )
        assert model.batches == [["0", "1", "2", "3"], ["4", "5"]]
        await _fetch(batching_model, "deep", 500_000)
        assert model.depths[-1] == [500_000], "a single query is sent whatever its depth"

    _run(test)


def test_changes_of_the_queue_are_reported() -> None:
    async def body() -> None:
        model, changes = Model(), list[int]()
        batching_model = BatchingModel(model, on_queue_change=changes.append)
        model.gate.clear()
        tasks = [_fetch(batching_model, "a")]
        await _let_tasks_run()
        tasks += [_fetch(batching_model, name) for name in "bc"]
        await _let_tasks_run()
        assert sum(changes) == 2
        model.gate.set()
        await asyncio.gather(*tasks)
        assert sum(changes) == 0

    asyncio.run(body())


def test_timeout_of_one_query_leaves_the_others() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.gate.clear()
        first = _fetch(batching_model, "first")
        await _let_tasks_run()
        hasty = _fetch(batching_model, "hasty", timeout_s=0.05)
        patient = _fetch(batching_model, "patient")
        sent = _fetch(batching_model, "sent", timeout_s=0.05, kind=QueryKind.ITEM)
        with pytest.raises(OutOfTime):
            await hasty
        with pytest.raises(OutOfTime):
            await sent
        await asyncio.sleep(0.1)
        assert model.cancelled == 1, "nobody waits for the item query any more"
        model.gate.set()
        await asyncio.gather(first, patient)
        assert model.batches == [["first"], ["sent"], ["patient"]], "hasty was never sent"

    _run(test)


def test_deadline_of_a_predict_is_the_latest_of_its_batch() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        now = _loop_time()
        await asyncio.gather(
            _fetch(batching_model, "a", timeout_s=2), _fetch(batching_model, "b", timeout_s=4)
        )
        assert model.deadlines[0] == pytest.approx(now + 4, abs=0.5)

    _run(test)


def test_cancelled_query_leaves_the_others() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.gate.clear()
        first = _fetch(batching_model, "first")
        await _let_tasks_run()
        cancelled, stays = _fetch(batching_model, "cancelled"), _fetch(batching_model, "stays")
        await _let_tasks_run()
        cancelled.cancel()
        await _let_tasks_run()
        model.gate.set()
        assert (await stays).item_ids == [b"stays"]
        await first
        assert model.batches == [["first"], ["stays"]]
        assert model.cancelled == 0

    _run(test)


def test_predict_is_cancelled_when_nobody_waits_for_it() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.gate.clear()
        two = [_fetch(batching_model, "a"), _fetch(batching_model, "b")]
        await _let_tasks_run()
        waits = _fetch(batching_model, "c")
        two[0].cancel()
        await _let_tasks_run()
        assert model.cancelled == 0
        two[1].cancel()
        await _let_tasks_run()
        assert model.cancelled == 1
        assert model.batches == [["a", "b"], ["c"]], "the next batch is sent at once"
        model.gate.set()
        await waits

    _run(test)


def test_bad_query_does_not_affect_its_batch() -> None:
    def error(queries: Sequence[Query]) -> Exception | None:
        bad = any(query.id == "bad" for query in queries)
        return ModelServerFault("bad cannot be ranked") if bad else None

    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.error = error
        a, bad, b = await asyncio.gather(
            *(_fetch(batching_model, name) for name in ("a", "bad", "b")), return_exceptions=True
        )
        assert isinstance(bad, ModelServerFault)
        assert isinstance(a, RankedItems)
        assert isinstance(b, RankedItems)
        assert (a.item_ids, b.item_ids) == ([b"a"], [b"b"])
        assert model.batches == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]

    _run(test)


def test_cancelled_query_is_not_sent_alone_after_a_fault() -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.error = lambda queries: ModelServerFault("broken") if len(queries) > 1 else None
        model.gate.clear()
        tasks = [_fetch(batching_model, name) for name in "abc"]
        await _let_tasks_run()
        tasks[1].cancel()
        await _let_tasks_run()
        model.gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert model.batches == [["a", "b", "c"], ["a"], ["c"]]

    _run(test)


@pytest.mark.parametrize("single", [ModelServerUnavailable("gone"), ModelServerFault("broken")])
def test_error_of_every_query_is_not_repeated_for_each(single: Exception) -> None:
    def error(queries: Sequence[Query]) -> Exception:
        return ModelServerFault("broken") if len(queries) > 1 else single

    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.error = error
        tasks = [_fetch(batching_model, f"u{number}") for number in range(100)]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(failure) for failure in errors} == {type(single)}
        assert len(model.batches) == 4, "the batch, and three queries alone"

    _run(test)


@pytest.mark.parametrize("error", [ModelServerUnavailable("gone"), RuntimeError("a bug")])
def test_error_reaches_the_whole_batch_and_no_later_query(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.error = lambda _queries: error
        errors = await asyncio.gather(
            *(_fetch(batching_model, name) for name in "ab"), return_exceptions=True
        )
        assert [str(failure) for failure in errors] == [str(error)] * 2
        assert {type(failure) for failure in errors} == {type(error)}
        assert errors[0] is not errors[1], "a shared exception would collect both tracebacks"
        assert model.batches == [["a", "b"]]
        model.error = lambda _queries: None
        assert (await _fetch(batching_model, "c")).item_ids == [b"c"]

    with caplog.at_level(logging.ERROR):
        _run(test)
    assert ("a Predict failed" in caplog.text) == (not isinstance(error, RetrievalError))


def test_query_that_would_wait_too_long_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_QUERIES", 1)

    async def test(model: Model, batching_model: BatchingModel) -> None:
        model.delay_s = 0.1
        for _ in range(10):  # The model learns how long a Predict takes.
            await _fetch(batching_model, "u")
        patient = [_fetch(batching_model, "u") for _ in range(4)]
        await asyncio.sleep(0.01)
        began = _loop_time()
        with pytest.raises(Overloaded):
            await _fetch(batching_model, "u", timeout_s=0.2)
        assert _loop_time() - began < 0.05
        last = _fetch(batching_model, "u")
        await asyncio.gather(*patient, last)
        model.delay_s = 0.0
        # With nothing in flight a query is sent whatever its deadline.
        await _fetch(batching_model, "u", timeout_s=0.05)

    _run(test)
