"""Answers under load are those that are given one by one: joined, they do not mix."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc
from tests.conftest import running

_REQUESTS = 10_000
_DISTINCT = 500
_CHANNELS = 4
_UNDER_WAY = 128
# Of float32 sums that are added up in another order.
_CLOSE = 1e-5


@pytest.fixture(scope="module", params=["retrieval", "retrieval_exact"])
def address(request: pytest.FixtureRequest, models_dir: Path) -> Iterator[str]:
    serving = ("--models-dir", str(models_dir), "--port", "0", "--model", request.param)
    with running("model_server", *serving) as (upstream, _):
        asking = ("--model-server", upstream, "--model", request.param, "--timeout-s", "20")
        store = ("--seen-store", f"sqlite:{models_dir / 'seen.sqlite'}")
        with running("query_service", "serve", "--port", "0", *asking, *store) as (address, _):
            yield address


def _requests() -> list[pb.RetrieveRequest]:
    """Of every kind, with every field, among them some that are refused."""
    chance = random.Random(0)

    def items(most: int) -> list[str]:
        return [f"i{chance.randrange(1000)}" for _ in range(chance.randrange(most))]

    requests = []
    for number in range(_DISTINCT):
        request = pb.RetrieveRequest(
            max_candidates=chance.choice([0, 1, 10, 50, 100, 300]),
            exclude_seen=chance.random() < 0.3,
            exclude_item_ids=items(60) if chance.random() < 0.5 else [],
        )
        known = "" if number % 10 else "un"
        if number % 3:
            request.user_id = f"{known}u{chance.randrange(300)}"
            request.recent_item_ids.extend(items(8) if number % 3 == 1 else [])
        else:
            request.item_id = f"{known}i{chance.randrange(1000)}"
            request.viewer_id = f"u{chance.randrange(300)}"
        if number % 50 == 0:
            request.max_candidates = 5000
        requests.append(request)
    return requests


Outcome = pb.RetrieveResponse | grpc.StatusCode


async def _ask(stub: retrieval_service_pb2_grpc.RetrievalServiceStub, request: object) -> Outcome:
    try:
        answer: pb.RetrieveResponse = await stub.Retrieve(request, timeout=30)
        return answer
    except grpc.aio.AioRpcError as error:
        return error.code()


async def _all(
    address: str, requests: list[pb.RetrieveRequest], under_way: int, channels: int
) -> list[Outcome]:
    """Ask in the order given, with so many under way at a time."""
    alone = [("grpc.use_local_subchannel_pool", 1)]
    opened = [grpc.aio.insecure_channel(address, options=alone) for _ in range(channels)]
    stubs = [retrieval_service_pb2_grpc.RetrievalServiceStub(one) for one in opened]  # type: ignore[no-untyped-call]
    outcomes: dict[int, Outcome] = {}
    numbers = iter(range(len(requests)))

    async def worker(stub: retrieval_service_pb2_grpc.RetrievalServiceStub) -> None:
        for number in numbers:
            outcomes[number] = await _ask(stub, requests[number])

    await asyncio.gather(*(worker(stubs[n % channels]) for n in range(under_way)))
    for one in opened:
        await one.close()
    return [outcomes[number] for number in range(len(requests))]


def _same(one: Outcome, other: Outcome) -> bool:
    if not isinstance(one, pb.RetrieveResponse) or not isinstance(other, pb.RetrieveResponse):
        return one == other
    scores = [[c.score for c in answer.candidates] for answer in (one, other)]
    if len(scores[0]) != len(scores[1]) or scores[0] != pytest.approx(scores[1], abs=_CLOSE):
        return False
    ours, theirs = ({c.item_id: c.score for c in answer.candidates} for answer in (one, other))
    # Only of equals at the end may one stand for another.
    last = min(scores[0], default=0.0)
    return (one.origin, one.model_version) == (other.origin, other.model_version) and all(
        abs(ours.get(item, last) - theirs.get(item, last)) <= _CLOSE for item in ours | theirs
    )


def test_ten_thousand_concurrent_answers_are_the_direct_ones(address: str) -> None:
    distinct = _requests()
    direct = asyncio.run(_all(address, distinct, 1, 1))
    kinds = {one if isinstance(one, grpc.StatusCode) else one.origin for one in direct}
    assert kinds == {
        pb.ORIGIN_MODEL,
        pb.ORIGIN_POPULARITY,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    }
    order = [number % _DISTINCT for number in range(_REQUESTS)]
    random.Random(1).shuffle(order)
    found = asyncio.run(
        _all(address, [distinct[number] for number in order], _UNDER_WAY, _CHANNELS)
    )
    different = [
        number for number, one in zip(order, found, strict=True) if not _same(one, direct[number])
    ]
    assert not different, distinct[different[0]]
