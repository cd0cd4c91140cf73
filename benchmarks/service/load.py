"""Measures one peer under load: its rate, its latency, and the use of the machine's cores."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.reporting import percentile
from tools.h2load import OK_STATUS, Closed, H2load, Measurement, Request, Schedule
from tools.usage import CoreMeter

#: Seconds before the measured part.
WARM_UP_S = 1
#: The largest number of HTTP/2 connections; more requests in flight are streams of them.
CONNECTIONS = 8
#: The largest number of requests in flight on a connection of the open loop.
_OPEN_LOOP_STREAMS = 100
#: Share of the bytes of all answers that may be missing, because the end cuts answers off.
_CUT_OFF_SHARE = 0.005
#: Larger answers come in many pieces, of which any part may be cut off.
_LARGE_BYTES = 65_536


class MeasurementError(Exception):
    """A peer did not answer as it should."""


@dataclass(frozen=True)
class Load:
    """A closed loop with ``concurrency`` requests in flight, or an open loop with a ``rate``.

    The open loop sends ``rate`` requests a second, at times drawn independently of one another,
    over ``CONNECTIONS`` connections, whether or not others have been answered. The load comes from
    h2load, or from one thread ``in_python``.
    """

    concurrency: int
    rate: float = 0.0
    in_python: bool = False

    def __str__(self) -> str:
        if self.rate:
            return f"{self.rate:,.0f}/s"
        return f"{self.concurrency}" + (", Python" if self.in_python else "")

    def jobs(self, request: Request, seconds: float) -> list[tuple[Request, Closed | Schedule]]:
        """Return the h2load processes that make this load, warm-up included."""
        total_s = WARM_UP_S + seconds
        if self.rate:
            return [
                (request, Schedule(1, _OPEN_LOOP_STREAMS, self._times_s(total_s, number)))
                for number in range(CONNECTIONS)
            ]
        connections = self.concurrency
        if not request.http1:
            connections = min(self.concurrency, CONNECTIONS)
        return [(request, Closed(connections, self.concurrency // connections, total_s))]

    def _times_s(self, total_s: float, connection: int) -> list[float]:
        """Draw the times at which one connection sends: a Poisson process."""
        draw = random.Random(connection)
        times_s, at_s = [], 0.0
        while (at_s := at_s + draw.expovariate(self.rate / CONNECTIONS)) < total_s:
            times_s.append(at_s)
        return times_s


@dataclass
class Sample:
    """The result of one measurement.

    Attributes:
        rate: answers per second.
        p50_ms: median latency.
        p99_ms: 99th percentile of the latency.
        cores: cores in use on the machine, by servers, load and all else.
        other_cores: cores in use by programs that do not belong to the benchmark.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cores: float
    other_cores: float


def measure_with_h2load(
    address: str, request: Request, load: Load, seconds: float, answer_bytes: int
) -> Sample:
    """Measure with h2load. A good answer has ``answer_bytes`` in its DATA frames.

    Raises:
        MeasurementError: there were errors, or bytes of answers are missing.
        H2loadError: h2load failed.
    """
    with H2load(address, load.jobs(request, seconds)) as running:
        # A little inside the measured part, so that start and end of h2load do not count.
        time.sleep(WARM_UP_S + 0.1)
        meter = CoreMeter()
        time.sleep(max(seconds - 0.2, 0.1))
        cores = meter.read()
        measured = running.finish()
    for one in measured:
        _check(one, answer_bytes, load)
    calls = pd.concat([one.calls for one in measured])
    calls = calls[calls.status == OK_STATUS]
    begin_us = calls.sent_us.min() + WARM_UP_S * 1e6
    ends_us = calls.sent_us + calls.latency_us
    latencies_ms = calls.latency_us[ends_us >= begin_us].to_numpy(float) / 1e3
    return _sample(latencies_ms, (ends_us.max() - begin_us) / 1e6, cores)


def measure_with_python(call: Callable[[], object], seconds: float) -> Sample:
    """Measure with one thread of Python that makes one call after another."""
    warm_at = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < warm_at:
        call()
    latencies_ms = []
    meter = CoreMeter()
    begun = now = time.perf_counter()
    while now < begun + seconds:
        call()
        before, now = now, time.perf_counter()
        latencies_ms.append((now - before) * 1e3)
    return _sample(np.array(latencies_ms), now - begun, meter.read())


def _check(measured: Measurement, answer_bytes: int, load: Load) -> None:
    if not measured.succeeded or measured.failed or measured.errored:
        raise MeasurementError(
            f"{measured.succeeded} of {measured.done} requests were answered, "
            f"{measured.failed} failed, {measured.errored} ended with an error"
        )
    least = answer_bytes * (1 - _CUT_OFF_SHARE)
    if answer_bytes > _LARGE_BYTES:
        least *= max(0.0, 1 - load.concurrency / measured.succeeded)
    if (each := measured.data_bytes / measured.succeeded) < least:
        raise MeasurementError(
            f"answers have {each:.0f} bytes instead of {answer_bytes}: some calls failed"
        )


def _sample(latencies_ms: np.ndarray, seconds: float, cores: tuple[float, float]) -> Sample:
    if not latencies_ms.size:
        raise MeasurementError("no request was answered in time")
    p50_ms, p99_ms = (percentile(latencies_ms, percent) for percent in (50, 99))
    return Sample(latencies_ms.size / seconds, p50_ms, p99_ms, *cores)
