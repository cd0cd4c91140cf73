"""The open loop by a clock that only the test moves, so that every time is known."""

from collections.abc import Callable
from typing import Any

import pytest

from query_service.load_test import load
from query_service.load_test.plan import Plan
from query_service.load_test.requests import Requests
from query_service.load_test.tally import Tally

RATE = 64
WARM_UP_S, DURATION_S, TIMEOUT_S = 0.5, 1.0, 0.25
START_S = 1000.0


class Clock:
    """A clock that a wait moves forward, and a service that answers each call in no time.

    Attributes:
        now: The time in seconds.
        sent: The time at which each call was sent.
        stalls: The seconds that the sending of a call takes, by its number.
    """

    def __init__(self) -> None:
        self.now = START_S
        self.sent: list[float] = []
        self.stalls: dict[int, float] = {}
        self.in_flight = 0

    def perf_counter(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False

    def send(self, _method: str, _request: bytes, done: Callable[[Any], None]) -> None:
        self.sent.append(self.now)
        self.now += self.stalls.get(len(self.sent) - 1, 0.0)
        done(self)

    def result(self) -> bytes:
        return b""

    def close(self, *, cancel: bool) -> None:
        assert not cancel


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(load, "time", clock)
    monkeypatch.setattr(load, "Connection", lambda *_: clock)
    return clock


def _run(clock: Clock) -> Tally:
    plan = Plan(
        address="",
        requests=Requests("user_id", ["u1"], k=1),
        first_call=0,
        connections=2,
        concurrency=1,
        rate=RATE,
        delay_s=0.0,
        warm_up_s=WARM_UP_S,
        duration_s=DURATION_S,
        timeout_s=TIMEOUT_S,
    )
    running = load.Load(plan)
    running._stopped = clock  # type: ignore[assignment]
    running.start()
    return running.finish(early=False)


def _due(number: int) -> float:
    return START_S + number / RATE


def test_calls_are_sent_at_the_times_of_the_rate(clock: Clock) -> None:
    tally = _run(clock)
    assert clock.sent == [_due(number) for number in range(96)]
    assert (tally.calls, tally.seconds, tally.unsent) == (64, DURATION_S, 0)
    assert tally.latencies.largest_s == 0


def test_delayed_calls_are_sent_at_once_and_their_latency_counts_from_the_due_time(
    clock: Clock,
) -> None:
    clock.stalls = {40: 0.125}
    tally = _run(clock)
    # Eight more calls became due during the call that took an eighth of a second.
    on_time = [_due(number) for number in (*range(41), *range(48, 96))]
    assert clock.sent == sorted([*on_time, *[_due(48)] * 7])
    assert (tally.calls, tally.unsent) == (64, 0)
    assert tally.latencies.largest_s == 0.125
    assert tally.latencies.quantile(1000 * 56 // 64) == 0
    assert tally.latencies.quantile(1000 * 57 // 64) > 0


def test_calls_that_are_late_by_more_than_the_timeout_are_not_sent(clock: Clock) -> None:
    clock.stalls = {40: 0.5}
    tally = _run(clock)
    # 32 calls became due meanwhile, of which 16 are at most a quarter of a second late.
    assert len(clock.sent) == 96 - tally.unsent
    assert tally.unsent == tally.unfinished == 15
    assert tally.calls == 64 - 15
