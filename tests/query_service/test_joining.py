"""Which queries go into one Predict, and that none touches another."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest

from query_service.backend import batching as joining
from query_service.backend.batching import JoiningModel
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerFault, ModelServerUnavailable, OutOfTime, RetrievalError


class Model:
    """Answers every query with its own id, as often as its depth, when told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.depths: list[list[int]] = []
        self.deadlines: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self.error: Callable[[Sequence[Query]], Exception | None] = lambda _queries: None

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        assert {one.kind for one in queries} == {kind}
        self.batches.append([one.id for one in queries])
        self.depths.append(list(depths))
        self.deadlines.append(deadline)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if error := self.error(queries):
            raise error
        return [
            RankedItems([one.id.encode()] * depth, [0.0] * depth, True, 1)
            for one, depth in zip(queries, depths, strict=True)
        ]


def _query(name: str, kind: QueryKind = QueryKind.USER) -> Query:
    return Query(kind, name, 1)


def _run(test: Callable[[Model, JoiningModel], Awaitable[None]], under_way: int = 1) -> None:
    async def body() -> None:
        model = Model()
        await test(model, JoiningModel(model, under_way))

    asyncio.run(body())


def _later(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def _ask(
    joined: JoiningModel,
    name: str,
    depth: int = 1,
    seconds: float = 5,
    kind: QueryKind = QueryKind.USER,
) -> "asyncio.Task[RankedItems]":
    return asyncio.create_task(joined.fetch(_query(name, kind), depth, _later(seconds)))


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_comes_during_a_predict_goes_into_the_next_one() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        model.gate.clear()
        first = _ask(joined, "a")
        await _turns()
        assert model.batches == [["a"]], "nobody waits for company"
        others = [_ask(joined, name) for name in "bcd"]
        await _turns()
        assert model.batches == [["a"]]
        model.gate.set()
        rows = await asyncio.gather(first, *others)
        assert model.batches == [["a"], ["b", "c", "d"]]
        assert [row.item_ids for row in rows] == [[b"a"], [b"b"], [b"c"], [b"d"]]

    _run(test)


def test_those_of_one_turn_go_together() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        await asyncio.gather(*(_ask(joined, name) for name in "abc"))
        assert model.batches == [["a", "b", "c"]]

    _run(test)


def test_as_many_predicts_as_allowed_are_under_way() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        model.gate.clear()
        tasks = []
        for name in "abcd":
            tasks.append(_ask(joined, name))
            await _turns()
        assert model.batches == [["a"], ["b"]]
        model.gate.set()
        await asyncio.gather(*tasks)
        assert model.batches == [["a"], ["b"], ["c", "d"]]

    _run(test, under_way=2)


def test_kinds_and_unlike_depths_stay_apart() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        await asyncio.gather(
            _ask(joined, "a", 100),
            _ask(joined, "b", 100, kind=QueryKind.ITEM),
            _ask(joined, "c", 101),
            _ask(joined, "d", 5000),
            _ask(joined, "e", 100, kind=QueryKind.USER_AND_RECENT),
            _ask(joined, "f", 1),
        )
        assert sorted(model.batches) == [["a", "c", "f"], ["b"], ["d"], ["e"]]

    _run(test)


def test_each_gets_its_own_depth() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        rows = await asyncio.gather(_ask(joined, "a", 3), _ask(joined, "b", 2))
        assert model.depths == [[3, 2]]
        assert [len(row.item_ids) for row in rows] == [3, 2]

    _run(test)


def test_a_predict_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        await asyncio.gather(*(_ask(joined, str(n)) for n in range(joining.MAX_ROWS + 3)))
        assert [len(batch) for batch in model.batches] == [joining.MAX_ROWS, 3]
        model.batches.clear()
        monkeypatch.setattr(joining, "MAX_CELLS", 40_000)
        depths = [9000, 8500, 10_000, 9000, 9000, 16_000]
        await asyncio.gather(*(_ask(joined, str(n), depth) for n, depth in enumerate(depths)))
        assert model.batches == [["0", "1", "2", "3"], ["4", "5"]]
        # Alone it is asked, however deep.
        await _ask(joined, "deep", 500_000)
        assert model.depths[-1] == [500_000]

    _run(test)


def test_one_that_runs_out_of_time_leaves_the_others() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        model.gate.clear()
        first = _ask(joined, "first")
        await _turns()
        hasty, patient = _ask(joined, "hasty", seconds=0.05), _ask(joined, "patient")
        asked = _ask(joined, "asked", seconds=0.05, kind=QueryKind.ITEM)
        with pytest.raises(OutOfTime):
            await hasty
        with pytest.raises(OutOfTime):
            await asked
        await asyncio.sleep(0.1)
        assert model.cancelled == 1, "nobody waits for the items any more"
        model.gate.set()
        await asyncio.gather(first, patient)
        # It was never asked, for its time was over before its turn.
        assert model.batches == [["first"], ["asked"], ["patient"]]

    _run(test)


def test_a_predict_has_until_the_last_of_its_deadlines() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        now = _later(0)
        await asyncio.gather(_ask(joined, "a", seconds=2), _ask(joined, "b", seconds=4))
        assert model.deadlines[0] == pytest.approx(now + 4, abs=0.5)

    _run(test)


def test_a_cancelled_one_leaves_the_others() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        model.gate.clear()
        first = _ask(joined, "first")
        await _turns()
        gone, stays = _ask(joined, "gone"), _ask(joined, "stays")
        await _turns()
        gone.cancel()
        await _turns()
        model.gate.set()
        assert (await stays).item_ids == [b"stays"]
        await first
        assert model.batches == [["first"], ["stays"]]
        assert model.cancelled == 0

    _run(test)


def test_a_predict_nobody_waits_for_is_cancelled_and_the_next_goes() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        model.gate.clear()
        two = [_ask(joined, "a"), _ask(joined, "b")]
        await _turns()
        waits = _ask(joined, "c")
        two[0].cancel()
        await _turns()
        assert model.cancelled == 0
        two[1].cancel()
        await _turns()
        assert model.cancelled == 1
        assert model.batches == [["a", "b"], ["c"]]
        model.gate.set()
        await waits

    _run(test)


def test_one_bad_query_does_not_touch_its_neighbours() -> None:
    def error(queries: Sequence[Query]) -> Exception | None:
        bad = any(one.id == "bad" for one in queries)
        return ModelServerFault("bad is not understood") if bad else None

    async def test(model: Model, joined: JoiningModel) -> None:
        model.error = error
        a, bad, b = await asyncio.gather(
            *(_ask(joined, name) for name in ("a", "bad", "b")), return_exceptions=True
        )
        assert isinstance(bad, ModelServerFault)
        assert [row.item_ids for row in (a, b) if isinstance(row, RankedItems)] == [[b"a"], [b"b"]]
        assert model.batches == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]

    _run(test)


def test_who_has_left_is_not_asked_for_alone() -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        model.error = lambda queries: ModelServerFault("broken") if len(queries) > 1 else None
        model.gate.clear()
        asked = [_ask(joined, name) for name in "abc"]
        await _turns()
        asked[1].cancel()
        await _turns()
        model.gate.set()
        await asyncio.gather(*asked, return_exceptions=True)
        assert model.batches == [["a", "b", "c"], ["a"], ["c"]]

    _run(test)


def test_a_model_server_that_goes_away_meanwhile_is_away_for_all() -> None:
    def error(queries: Sequence[Query]) -> Exception:
        return ModelServerFault("broken") if len(queries) > 1 else ModelServerUnavailable("away")

    async def test(model: Model, joined: JoiningModel) -> None:
        model.error = error
        asked = [_ask(joined, f"u{number}") for number in range(10)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(one) for one in errors} == {ModelServerUnavailable}
        assert len(model.batches) == 4

    _run(test)


@pytest.mark.parametrize("error", [ModelServerUnavailable("away"), RuntimeError("a bug")])
def test_an_error_reaches_everyone_and_the_next_is_asked(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(model: Model, joined: JoiningModel) -> None:
        model.error = lambda _queries: error
        found = await asyncio.gather(*(_ask(joined, name) for name in "ab"), return_exceptions=True)
        assert [str(one) for one in found] == [str(error)] * 2
        assert {type(one) for one in found} == {type(error)}
        assert found[0] is not found[1], "each is raised, and its traceback grows, by itself"
        assert model.batches == [["a", "b"]]
        model.error = lambda _queries: None
        assert (await _ask(joined, "c")).item_ids == [b"c"]

    with caplog.at_level(logging.ERROR):
        _run(test)
    assert ("a Predict failed" in caplog.text) == (not isinstance(error, RetrievalError))
