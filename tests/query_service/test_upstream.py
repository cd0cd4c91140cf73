"""What becomes of requests when model servers fail: others are asked, none is hammered."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from query_service.backend import batching as joining
from query_service.backend import circuit_breaker as breaker
from query_service.backend.batching import JoiningModel
from query_service.backend.circuit_breaker import BreakingModel
from query_service.backend.fallback import PopularItems
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import (
    ModelServerFault,
    ModelServerUnavailable,
    OutOfTime,
    Overloaded,
    RetrievalError,
    SignatureMissing,
)
from query_service.settings import Settings
from retrieval.v1 import retrieval_service_pb2 as pb
from rpc.addresses import grpc_target
from tests.query_service.conftest import FakeModelServer, Service
from tools.waiting import until

Serve = Callable[..., Service]
Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        ("127.0.0.1:8500", "127.0.0.1:8500"),
        ("dns:///models:8500", "dns:///models:8500"),
        ("10.0.0.1:8500,10.0.0.2:8501", "ipv4:10.0.0.1:8500,10.0.0.2:8501"),
        ("[::1]:8500, [::2]:8500", "ipv6:[::1]:8500,[::2]:8500"),
    ],
)
def test_names_of_model_servers(addresses: str, name: str) -> None:
    assert grpc_target(addresses) == name


@pytest.mark.parametrize("addresses", ["a:1,b:1", "10.0.0.1:1,[::1]:1", "10.0.0.1,10.0.0.2", "1,"])
def test_several_model_servers_are_ip_addresses(addresses: str) -> None:
    with pytest.raises(ValueError, match="several addresses"):
        Settings(model_server=addresses)


@pytest.fixture
def two_servers() -> Iterator[list[FakeModelServer]]:
    with ExitStack() as stack:
        servers = [FakeModelServer(), FakeModelServer()]
        for one in servers:
            stack.callback(one.stop)
        yield servers


def _both(servers: list[FakeModelServer]) -> str:
    return ",".join(f"127.0.0.1:{one.port}" for one in servers)


def _asked(server: FakeModelServer) -> int:
    return len(server.remaining_s)


def _code(service: Service, **fields: object) -> grpc.StatusCode:
    request = pb.RetrieveRequest(**{"user_id": "u", "max_candidates": 3, **fields})  # type: ignore[arg-type]
    try:
        service.stub.Retrieve(request, timeout=5)
    except grpc.RpcError as error:
        return error.code()  # type: ignore[no-any-return, attr-defined]
    return Code.OK


def test_all_model_servers_are_asked(serve: Serve, two_servers: list[FakeModelServer]) -> None:
    service = serve(model_server=_both(two_servers))
    until(lambda: (_code(service) is Code.OK) and all(map(_asked, two_servers)))
    before = [_asked(one) for one in two_servers]
    for _ in range(20):
        assert _code(service) is Code.OK
    assert [_asked(one) - was for one, was in zip(two_servers, before, strict=True)] == [10, 10]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.NOT_FOUND])
def test_another_is_asked_for_one_that_cannot_answer(
    serve: Serve, two_servers: list[FakeModelServer], code: grpc.StatusCode
) -> None:
    service = serve(model_server=_both(two_servers))
    until(lambda: (_code(service) is Code.OK) and all(map(_asked, two_servers)))
    two_servers[0].error = (code, "as arranged")
    before = _asked(two_servers[0])
    assert {_code(service) for _ in range(20)} == {Code.OK}
    assert _asked(two_servers[0]) > before


def test_one_that_has_gone_costs_no_request(
    serve: Serve, two_servers: list[FakeModelServer]
) -> None:
    service = serve(model_server=_both(two_servers))
    until(lambda: (_code(service) is Code.OK) and all(map(_asked, two_servers)))
    two_servers[0].delay_s = 0.2
    waiting = [
        service.stub.Retrieve.future(pb.RetrieveRequest(user_id="u", max_candidates=k), timeout=5)
        for k in (1, 200, 500, 900)  # depths so far apart that none is joined
    ]
    until(lambda: two_servers[0].remaining_s and _asked(two_servers[0]) > 1)
    two_servers[0].stop()
    assert [one.code() for one in waiting] == [Code.OK] * 4
    assert {_code(service) for _ in range(50)} == {Code.OK}


def test_what_always_fails_is_not_asked_again_and_again(
    serve: Serve, model_server: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FAILURES", 1_000_000)
    service = serve()
    model_server.error = (Code.UNAVAILABLE, "as arranged")
    before = _asked(model_server)
    for _ in range(100):
        assert _code(service) is Code.UNAVAILABLE
    assert 100 <= _asked(model_server) - before <= 125, "twenty more than there were requests"


def test_a_wrong_request_is_not_asked_again(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve()
    model_server.error = (Code.INVALID_ARGUMENT, "as arranged")
    assert _code(service) is Code.INTERNAL
    assert _asked(model_server) == 1


def test_a_dead_model_server_is_found_dead_at_once_and_alive_soon(
    serve: Serve, model_server: FakeModelServer
) -> None:
    service = serve()
    assert _code(service) is Code.OK
    model_server.error = (Code.UNAVAILABLE, "as arranged")
    until(lambda: service.health() != 1)
    asked = _asked(model_server)
    began = time.monotonic()
    while time.monotonic() - began < 1:
        once = time.monotonic()
        assert _code(service) is Code.UNAVAILABLE
        assert time.monotonic() - once < 0.1
    assert _asked(model_server) - asked < 3 * 30, "about 1/s when open, and retries"
    model_server.error = None
    began = time.monotonic()
    until(lambda: _code(service) is Code.OK)
    assert time.monotonic() - began < 2
    assert {_code(service) for _ in range(20)} == {Code.OK}


class Model:
    """Answers, or fails, as it is told."""

    def __init__(self) -> None:
        self.error: RetrievalError | None = None
        self.asked = 0
        self.delay_s = 0.0
        self.hangs = False

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        del kind
        self.asked += 1
        if self.hangs:
            # As a call of gRPC ends.
            await asyncio.sleep(deadline - asyncio.get_running_loop().time())
            raise OutOfTime("Deadline Exceeded")
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return [
            RankedItems([b"i"] * depth, [0.0] * depth, True, 1) for depth in depths[: len(queries)]
        ]


async def _fetch(model: joining.BatchModel, seconds: float = 5.0) -> Sequence[RankedItems]:
    deadline = asyncio.get_running_loop().time() + seconds
    return await model.fetch_batch(QueryKind.USER, [Query(QueryKind.USER, "u", 1)], [1], deadline)


def _breaking(test: Callable[[Model, BreakingModel], Awaitable[None]]) -> None:
    async def body() -> None:
        model = Model()
        await test(model, BreakingModel(model))

    asyncio.run(body())


async def _fail(model: BreakingModel, times: int, seconds: float = 5.0) -> None:
    for _ in range(times):
        with pytest.raises(RetrievalError):
            await _fetch(model, seconds)


def test_the_breaker_opens_tries_and_closes() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        model.error = ModelServerUnavailable("away")
        await _fail(breaking, breaker.FAILURES)
        assert model.asked == breaker.FAILURES
        with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
            await _fetch(breaking)
        assert model.asked == breaker.FAILURES, "open: not asked"
        await asyncio.sleep(breaker.FIRST_PAUSE_S)
        model.delay_s = 0.05
        await asyncio.gather(*(_fail(breaking, 1) for _ in range(5)))
        assert model.asked == breaker.FAILURES + 1, "one tries for all"
        model.error = None
        await asyncio.sleep(2 * breaker.FIRST_PAUSE_S)
        await _fetch(breaking)
        await asyncio.gather(*(_fetch(breaking) for _ in range(5)))
        assert model.asked == breaker.FAILURES + 7, "closed: all are asked"

    _breaking(test)


def test_a_success_in_between_keeps_the_breaker_closed() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        for _ in range(3):
            model.error = ModelServerUnavailable("away")
            await _fail(breaking, breaker.FAILURES - 1)
            model.error = None
            await _fetch(breaking)
        assert model.asked == 3 * breaker.FAILURES

    _breaking(test)


def test_callers_in_a_hurry_do_not_open_the_breaker() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        model.error = OutOfTime("late")
        await _fail(breaking, 2 * breaker.FAILURES, seconds=breaker.FAIR_TIME_S / 2)
        assert model.asked == 2 * breaker.FAILURES
        await _fail(breaking, breaker.FAILURES)
        await _fail(breaking, 1)
        assert model.asked == 3 * breaker.FAILURES, "those that had time do"

    _breaking(test)


def test_every_answer_keeps_the_breaker_closed() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        for answer in (Overloaded("busy"), SignatureMissing("none"), ModelServerFault("broken")):
            model.error = ModelServerUnavailable("away")
            await _fail(breaking, breaker.FAILURES - 1)
            model.error = answer
            await _fail(breaking, 1)
        assert model.asked == 3 * breaker.FAILURES

    _breaking(test)


def test_a_model_server_that_hangs_opens_the_breaker() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        model.hangs = True
        joined = JoiningModel(breaking)

        async def ask(seconds: float) -> None:
            deadline = asyncio.get_running_loop().time() + seconds
            await joined.fetch(Query(QueryKind.USER, "u", 1), 1, deadline)

        for _ in range(breaker.FAILURES):
            with pytest.raises(OutOfTime):
                await ask(1.5 * breaker.FAIR_TIME_S)
        with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
            await ask(5.0)
        assert model.asked == breaker.FAILURES

    _breaking(test)


def test_nobody_waits_for_the_one_that_tries() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        joined = JoiningModel(breaking, check=breaking.check)
        model.error = ModelServerUnavailable("away")
        await _fail(breaking, breaker.FAILURES)
        await asyncio.sleep(breaker.FIRST_PAUSE_S)
        model.hangs = True
        deadline = asyncio.get_running_loop().time() + 0.5
        query = Query(QueryKind.USER, "u", 1)
        trying = asyncio.create_task(joined.fetch(query, 1, deadline))
        await asyncio.sleep(0.05)
        for _ in range(5):
            with pytest.raises(ModelServerUnavailable, match="has stopped answering"):
                await joined.fetch(query, 1, deadline)
        assert not trying.done()
        with pytest.raises(OutOfTime):
            await trying

    _breaking(test)


def test_callers_that_go_early_do_not_open_the_breaker() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        model.hangs = True
        joined = JoiningModel(breaking)
        for _ in range(2 * breaker.FAILURES):
            deadline = asyncio.get_running_loop().time() + 5
            asking = asyncio.create_task(joined.fetch(Query(QueryKind.USER, "u", 1), 1, deadline))
            await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(0)
        assert model.asked == 2 * breaker.FAILURES

    _breaking(test)


def test_a_fault_that_is_not_one_querys_is_not_multiplied() -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        model.error = ModelServerFault("broken")
        joined = JoiningModel(breaking)
        deadline = asyncio.get_running_loop().time() + 5
        asking = [joined.fetch(Query(QueryKind.USER, f"u{n}", 1), 1, deadline) for n in range(100)]
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(one) for one in errors} == {ModelServerFault}
        assert model.asked < 10

    _breaking(test)


def test_pauses_grow_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE_S", 0.04)

    async def test(model: Model, breaking: BreakingModel) -> None:
        model.error = ModelServerUnavailable("away")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            await _fail(breaking, 1)
            await asyncio.sleep(0.001)
        # At the most one every 20 ms, at the least one every 40 ms and what the machine adds.
        assert 10 <= model.asked - breaker.FAILURES <= 55

    _breaking(test)


def test_without_fallback_there_is_none(serve: Serve, model_server: FakeModelServer) -> None:
    service = serve()
    assert _code(service) is Code.OK
    model_server.stop()
    assert _code(service) is Code.UNAVAILABLE


def test_the_most_popular_items_are_the_last_resort(
    serve: Serve, model_server: FakeModelServer, seen_path: Path
) -> None:
    model_server.known = False  # so that the list can be told from an answer
    service = serve(fallback="popular", seen_store=f"sqlite:{seen_path}")
    until(lambda: _asked(model_server) > 0)
    assert _code(service) is Code.OK, "by now it has got the list"
    model_server.stop()
    until(lambda: service.health() != 1)
    for fields, expected in (
        ({"user_id": "u"}, ["i0", "i1", "i2"]),
        ({"user_id": "u", "exclude_item_ids": ["i1"]}, ["i0", "i2", "i3"]),
        ({"user_id": "u1", "exclude_seen": True}, ["i1", "i3", "i5"]),
        ({"item_id": "i0"}, ["i1", "i2", "i3"]),
        ({"user_id": "u", "recent_item_ids": ["i7"]}, ["i0", "i1", "i2"]),
    ):
        request = pb.RetrieveRequest(max_candidates=3, **fields)  # type: ignore[arg-type]
        answer = service.stub.Retrieve(request, timeout=5)
        assert [one.item_id for one in answer.candidates] == expected
        assert answer.origin == pb.ORIGIN_POPULARITY
        assert answer.model_version == 7
    assert _code(service, user_id="") is Code.INVALID_ARGUMENT


def test_the_last_resort_follows_the_versions(serve: Serve, model_server: FakeModelServer) -> None:
    model_server.known = False
    service = serve(fallback="popular")
    until(lambda: _asked(model_server) == 1)
    model_server.ranking = ["n0", "n1"]
    model_server.version = 8
    until(lambda: _asked(model_server) == 2)
    assert _code(service) is Code.OK
    model_server.stop()
    answer = service.stub.Retrieve(pb.RetrieveRequest(user_id="u"), timeout=5)
    assert [one.item_id for one in answer.candidates] == ["n0", "n1"]
    assert answer.model_version == 8


def test_a_model_that_knows_no_users_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(model: Model, breaking: BreakingModel) -> None:
        model.error = SignatureMissing("no by_user")
        popular = PopularItems(breaking, lambda: 7, 10)
        for _ in range(3):
            await popular.update()
        assert (model.asked, popular.row) == (1, None)
        assert caplog.text.count("nothing to fall back to") == 1

    _breaking(test)


def test_a_last_resort_never_seen_is_none(serve: Serve) -> None:
    service = serve(fallback="popular", model_server="127.0.0.1:1")
    assert _code(service) is Code.UNAVAILABLE


def test_who_would_wait_too_long_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MAX_ROWS", 1)

    async def test() -> None:
        model = Model()
        model.delay_s = 0.1
        joined = JoiningModel(model)
        loop = asyncio.get_running_loop()

        def ask(seconds: float) -> "asyncio.Task[RankedItems]":
            query = Query(QueryKind.USER, "u", 1)
            return loop.create_task(joined.fetch(query, 1, loop.time() + seconds))

        for _ in range(10):  # so that it knows how long a Predict takes
            await ask(5)
        patient = [ask(5) for _ in range(4)]
        await asyncio.sleep(0.01)
        began = loop.time()
        with pytest.raises(Overloaded):
            await ask(0.2)
        assert loop.time() - began < 0.05
        last = ask(5)
        await asyncio.gather(*patient, last)
        model.delay_s = 0.0
        await ask(0.05)  # Nothing is under way: it is asked whatever is expected.

    asyncio.run(test())


def test_a_batch_counts_as_what_it_holds(serve: Serve, model_server: FakeModelServer) -> None:
    model_server.delay_s = 0.3
    service = serve(max_concurrent_requests=4)
    batch = pb.BatchRetrieveRequest(requests=[pb.RetrieveRequest(user_id="u")] * 4)
    call = service.stub.BatchRetrieve.future(batch, timeout=5)
    until(lambda: _asked(model_server) > 0)
    assert _code(service) is Code.RESOURCE_EXHAUSTED
    assert len(call.result().results) == 4
    assert _code(service) is Code.OK
