"""Serialised requests, and the histogram of latencies."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_service.load_test.requests import Requests
from query_service.load_test.tally import Latencies
from retrieval.v1 import retrieval_service_pb2 as pb


def _latencies(*seconds: float) -> Latencies:
    latencies = Latencies()
    for one in seconds:
        latencies.add(one)
    return latencies


def test_quantiles_of_known_latencies() -> None:
    latencies = _latencies(*(n / 1000 for n in range(1, 1001)))
    for per_mille in (1, 500, 900, 990, 999, 1000):
        assert latencies.quantile(per_mille) == pytest.approx(per_mille / 1000, rel=0.01)
    # Nearest rank: of three values, the second covers up to two thirds.
    three = _latencies(0.3, 0.001, 0.02)
    assert three.quantile(500) == pytest.approx(0.02, rel=0.01)
    assert three.quantile(666) == pytest.approx(0.02, rel=0.01)
    assert three.quantile(667) == three.quantile(999) == pytest.approx(0.3, rel=0.01)
    assert three.largest_s == 0.3
    assert Latencies().quantile(500) == 0
    assert _latencies(0.0).quantile(500) == 0


@given(
    st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=60),
    st.integers(1, 1000),
    st.integers(0, 60),
)
def test_quantiles_are_exact_to_one_percent_after_a_merge(
    seconds: list[float], per_mille: int, first: int
) -> None:
    exact = sorted(seconds)[math.ceil(len(seconds) * per_mille / 1000) - 1]
    latencies = _latencies(*seconds[:first])
    latencies.merge(_latencies(*seconds[first:]))
    assert latencies.quantile(per_mille) == pytest.approx(exact, rel=0.01)
    assert latencies.largest_s == max(seconds)


def test_histogram_has_a_bounded_size() -> None:
    # From 1 microsecond to 10,000 s: 900 values per decade.
    assert len(_latencies(*(1.001**n for n in range(-13_820, 9_215))).counts) <= 9_000


@pytest.mark.parametrize("kind", ["user_id", "item_id"])
def test_requests_and_batches_are_serialised(kind: Any) -> None:
    # The batch prefixes these with lengths of one, two and three bytes.
    ids = ["a", "é" * 100, "c" * 256]
    shared: Any = {"max_candidates": 7, "exclude_seen": True, "exclude_item_ids": ["x" * 250] * 66}
    expected = [pb.RetrieveRequest(**{kind: one, **shared}) for one in ids]
    options: Any = {"k": 7, "exclude_seen": True, "exclude": shared["exclude_item_ids"]}
    single = Requests(kind, ids, **options)
    assert [pb.RetrieveRequest.FromString(single[n]) for n in range(5)] == [
        *expected,
        *expected[:2],
    ]
    batches = Requests(kind, ids, **options, batch=2)
    assert [list(pb.BatchRetrieveRequest.FromString(batches[n]).requests) for n in (0, 1)] == [
        expected[:2],
        [expected[2], expected[0]],
    ]
