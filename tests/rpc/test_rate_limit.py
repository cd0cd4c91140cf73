"""The rate limit is a token bucket. These tests set its clock."""

import pytest

from rpc.guard import RateLimit


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_one_second_of_requests_is_available_at_once() -> None:
    limit = RateLimit(10, now=_Clock())
    assert [limit.take() for _ in range(10)] == [0] * 10
    assert limit.take() == pytest.approx(0.1)


def test_requests_become_available_at_the_rate() -> None:
    clock = _Clock()
    limit = RateLimit(10, now=clock)
    for _ in range(10):
        limit.take()
    clock.now_s += 0.05
    assert limit.take() == pytest.approx(0.05)
    clock.now_s += 0.06
    assert limit.take() == 0


def test_a_pause_saves_no_more_than_one_second_of_requests() -> None:
    clock = _Clock()
    limit = RateLimit(10, now=clock)
    clock.now_s += 60
    assert [limit.take() for _ in range(11)].count(0) == 10


def test_charged_requests_delay_later_ones() -> None:
    clock = _Clock()
    limit = RateLimit(10, now=clock)
    limit.charge(30)
    assert limit.take() == pytest.approx(2.1)
    clock.now_s += 2.2
    assert limit.take() == 0


def test_a_rate_below_one_still_allows_a_request() -> None:
    limit = RateLimit(0.5, now=_Clock())
    assert limit.take() == 0
    assert limit.take() == pytest.approx(2.0)
