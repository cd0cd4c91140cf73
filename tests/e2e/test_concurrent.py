"""Concurrent requests, which the service batches, get the same responses as single requests."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from tests.conftest import running

_REQUESTS = 3_000
_DISTINCT_REQUESTS = 500
_CHANNELS = 4
_IN_FLIGHT = 128
#: TensorFlow may sum the float32 products of a batch in another order.
_SCORE_TOLERANCE = 1e-5

Outcome = pb.RetrieveResponse | grpc.StatusCode


@pytest.fixture(scope="module", params=["retrieval", "retrieval_exact"])
def address(request: pytest.FixtureRequest, models_dir: Path) -> Iterator[str]:
    """The address of a query service in front of one of the two models."""
    model = ("--model", request.param)
    model_server = ("--models-dir", str(models_dir), "--port", "0", *model)
    with running("model_server", *model_server) as (model_server_address, _):
        backend = ("--model-server", model_server_address, *model, "--timeout-s", "20")
        seen_store = ("--seen-store", f"sqlite:{models_dir / 'seen.sqlite'}")
        arguments = ("serve", "--port", "0", *backend, *seen_store)
        with running("query_service", *arguments) as (address, _):
            yield address


def _random_requests() -> list[pb.RetrieveRequest]:
    """Return requests of every kind that set every field; some of them are invalid."""
    source = random.Random(0)

    def items(limit: int) -> list[str]:
        return [f"i{source.randrange(1000)}" for _ in range(source.randrange(limit))]

    requests = []
    for number in range(_DISTINCT_REQUESTS):
        request = pb.RetrieveRequest(
            max_candidates=source.choice([0, 1, 10, 50, 100, 300]),
            exclude_seen=source.random() < 0.3,
            exclude_item_ids=items(60) if source.random() < 0.5 else [],
        )
        prefix = "" if number % 10 else "unknown-"
        if number % 3:
            request.user_id = f"{prefix}u{source.randrange(300)}"
            request.recent_item_ids.extend(items(8) if number % 3 == 1 else [])
        else:
            request.item_id = f"{prefix}i{source.randrange(1000)}"
            request.viewer_id = f"u{source.randrange(300)}"
        if number % 50 == 0:
            request.max_candidates = 5000
        requests.append(request)
    return requests


async def _outcome(stub: RetrievalServiceStub, request: pb.RetrieveRequest) -> Outcome:
    try:
        response: pb.RetrieveResponse = await stub.Retrieve(request, timeout=30)
        return response
    except grpc.aio.AioRpcError as error:
        return error.code()


async def _outcomes(
    address: str, requests: list[pb.RetrieveRequest], *, in_flight: int, channels: int
) -> list[Outcome]:
    """Send requests in order with ``in_flight`` of them in flight; return their outcomes."""
    # Otherwise channels to the same address share a connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    opened = [grpc.aio.insecure_channel(address, options=options) for _ in range(channels)]
    stubs = [RetrievalServiceStub(channel) for channel in opened]
    outcomes: dict[int, Outcome] = {}
    numbers = iter(range(len(requests)))

    async def worker(stub: RetrievalServiceStub) -> None:
        for number in numbers:
            outcomes[number] = await _outcome(stub, requests[number])

    await asyncio.gather(*(worker(stubs[n % channels]) for n in range(in_flight)))
    for channel in opened:
        await channel.close()
    return [outcomes[number] for number in range(len(requests))]


def _agree(one: Outcome, other: Outcome) -> bool:
    """Compare two outcomes; items at the end of a ranking may differ if their scores are equal."""
    if not isinstance(one, pb.RetrieveResponse) or not isinstance(other, pb.RetrieveResponse):
        return one == other
    if (one.origin, one.model_version) != (other.origin, other.model_version):
        return False
    ours, theirs = ([c.score for c in response.candidates] for response in (one, other))
    if len(ours) != len(theirs) or ours != pytest.approx(theirs, abs=_SCORE_TOLERANCE):
        return False
    lowest = min(ours, default=0.0)
    by_item, others_by_item = (
        {c.item_id: c.score for c in response.candidates} for response in (one, other)
    )
    return all(
        abs(by_item.get(item, lowest) - others_by_item.get(item, lowest)) <= _SCORE_TOLERANCE
        for item in by_item | others_by_item
    )


def test_3_000_concurrent_requests_get_the_responses_of_single_requests(address: str) -> None:
    distinct = _random_requests()
    expected = asyncio.run(_outcomes(address, distinct, in_flight=1, channels=1))
    kinds = {one if isinstance(one, grpc.StatusCode) else one.origin for one in expected}
    assert kinds == {
        pb.ORIGIN_MODEL,
        pb.ORIGIN_POPULARITY,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    }
    order = [number % _DISTINCT_REQUESTS for number in range(_REQUESTS)]
    random.Random(1).shuffle(order)
    requests = [distinct[number] for number in order]
    outcomes = asyncio.run(_outcomes(address, requests, in_flight=_IN_FLIGHT, channels=_CHANNELS))
    different = [
        number
        for number, outcome in zip(order, outcomes, strict=True)
        if not _agree(outcome, expected[number])
    ]
    assert not different, distinct[different[0]]
