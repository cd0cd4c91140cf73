"""Measures one peer under load: rate, latency, and how many of the machine's cores are in use."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.reporting import percentile
from tools.h2load import OK_STATUS, Closed, H2load, Measurement, Request, Schedule
from tools.usage import CoreMeter

#: Seconds of load before the measured period.
WARM_UP_S = 1
#: The maximum number of HTTP/2 connections. Further requests in flight share the connections.
CONNECTIONS = 8
#: The maximum number of requests in flight per connection in the open loop.
_OPEN_LOOP_STREAMS = 100
#: The share of all answer bytes that may be missing, because h2load's end cuts off answers.
_CUT_OFF_SHARE = 0.005
#: Answers above this size arrive in many pieces, so each answer in flight may be cut off.
_LARGE_BYTES = 65_536


class MeasurementError(Exception):
    """A peer did not answer correctly."""


@dataclass(frozen=True)
class Load:
    """A closed loop with ``concurrency`` requests in flight, or an open loop with a ``rate``.

    The open loop sends ``rate`` requests a second at random times over ``CONNECTIONS`` connections,
    whether or not earlier requests have been answered. h2load generates the load, or one Python
    thread if ``in_python`` is set.
    """

    concurrency: int
    rate: float = 0.0
    in_python: bool = False

    def __str__(self) -> str:
        if self.rate:
            return f"{self.rate:,.0f}/s"
        return f"{self.concurrency}" + (", Python" if self.in_python else "")

    def jobs(self, request: Request, seconds: float) -> list[tuple[Request, Closed | Schedule]]:
        """Return the jobs of the h2load processes that generate this load, including warm-up."""
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
        """Draw the times at which one connection sends requests, from a Poisson process."""
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
        cores: average number of cores in use on the machine, by all programs.
        other_cores: the part of ``cores`` used by programs that do not belong to the benchmark.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cores: float
    other_cores: float


def measure_with_h2load(
    address: str, request: Request, load: Load, seconds: float, answer_bytes: int
) -> Sample:
    """Measure with h2load. A correct answer has ``answer_bytes`` in its DATA frames.

    Raises:
        MeasurementError: there were errors, or answer bytes are missing.
        H2loadError: h2load failed.
    """
    with H2load(address, load.jobs(request, seconds)) as running:
        # Measure slightly less than the whole period, to leave out h2load's start and end.
        time.sleep(WARM_UP_S + 0.1)
        meter = CoreMeter()
        time.sleep(max(seconds - 0.2, 0.1))
        cores = meter.read()
        measured = running.finish()
    for measurement in measured:
        _check(measurement, answer_bytes, load)
    calls = pd.concat([measurement.calls for measurement in measured])
    calls = calls[calls.status == OK_STATUS]
    start_us = calls.sent_us.min() + WARM_UP_S * 1e6
    ends_us = calls.sent_us + calls.latency_us
    latencies_ms = calls.latency_us[ends_us >= start_us].to_numpy(float) / 1e3
    return _sample(latencies_ms, (ends_us.max() - start_us) / 1e6, cores)


def measure_with_python(call: Callable[[], object], seconds: float) -> Sample:
    """Measure with one Python thread that makes one call after another."""
    warm_at = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < warm_at:
        call()
    latencies_ms = []
    meter = CoreMeter()
    start = now = time.perf_counter()
    while now < start + seconds:
        call()
        before, now = now, time.perf_counter()
        latencies_ms.append((now - before) * 1e3)
    return _sample(np.array(latencies_ms), now - start, meter.read())


def _check(measured: Measurement, answer_bytes: int, load: Load) -> None:
    if not measured.succeeded or measured.failed or measured.errored:
        raise MeasurementError(
            f"{measured.succeeded} of {measured.done} requests were answered, "
            f"{measured.failed} failed, {measured.errored} ended with an error"
        )
    min_bytes = answer_bytes * (1 - _CUT_OFF_SHARE)
    if answer_bytes > _LARGE_BYTES:
        min_bytes *= max(0.0, 1 - load.concurrency / measured.succeeded)
    if (mean_bytes := measured.data_bytes / measured.succeeded) < min_bytes:
        raise MeasurementError(
            f"answers have {mean_bytes:.0f} bytes instead of {answer_bytes}: some calls failed"
        )


def _sample(latencies_ms: np.ndarray, seconds: float, cores: tuple[float, float]) -> Sample:
    if not latencies_ms.size:
        raise MeasurementError("no request was answered before the measurement ended")
    p50_ms, p99_ms = (percentile(latencies_ms, percent) for percent in (50, 99))
    return Sample(latencies_ms.size / seconds, p50_ms, p99_ms, *cores)
