"""Scenario: twice as many requests are sent as can be answered; the rate of answers must not drop.

h2load generates the load. Each h2load process repeats one request, whose answers all have the same
size, so the number of OK answers is the size of all answers divided by that of one. Requests that
take longer than the deadline do not count, whatever their status.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, median

import grpc
import pandas as pd
import psutil

from benchmarks.chaos.checks import Check, ScenarioError, at_least, at_most
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.requests import without_exclusions
from benchmarks.serving import method
from query_service.load_test.requests import RETRIEVE
from tools import h2load
from tools.h2load import GRPC_PREFIX_BYTES, Closed, H2load, H2loadError, Request, Schedule
from tools.usage import MemoryLog, memory_mib

#: The minimum rate of OK answers in time, as a percentage of the highest rate.
_MIN_GOODPUT_PERCENT = 90
#: The minimum rate of requests sent. h2load tries to send 200 % of the highest rate.
_MIN_SENT_PERCENT = 170
#: The query service holds the requests of about one second, even if it refuses them in the end.
_MAX_GROWTH_MIB = 128
_MAX_LATE_GROWTH_PERCENT = 150
_PROCESSES, _CONNECTIONS = 2, 8
_CONCURRENCIES = (32, 64, 128)
_ROUNDS = 3


def overload(env: Environment) -> Iterator[Check]:
    """Requests are sent in an open loop at twice the highest rate that is answered."""
    if not h2load.installed():
        raise ScenarioError(h2load.INSTALL_HINT)
    with env.servers("overload") as (_, service):
        bodies = without_exclusions(env.known, _PROCESSES)
        load = _Load(service.address, bodies, env.deadline_s)
        load.closed(_CONCURRENCIES[0], 3)  # warms up
        seconds = max(2.0, env.overload_s / 3)
        rounds = {number: load.closed(number, seconds) for number in _CONCURRENCIES}
        concurrency = max(rounds, key=lambda number: rounds[number].good_per_s)
        first = highest = rounds[concurrency]
        before_mib = sum(memory_mib(service.process))
        goodput: list[float] = []
        sent: list[float] = []
        with MemoryLog(0.2, service=service.process) as memory:
            # The speed of a machine drifts, so the highest rate is measured before and after.
            for _ in range(_ROUNDS):
                flooded = load.open(2 * highest.good_per_s, env.overload_s)
                after = load.closed(concurrency, seconds)
                percent = 100 / mean([highest.good_per_s, after.good_per_s])
                goodput.append(flooded.good_per_s * percent)
                sent.append(flooded.sent_per_s * percent)
                highest = after
    what = f"highest rate, at concurrency {concurrency},"
    yield Check(f"{what} at the beginning", f"{first.good_per_s:,.0f}/s; {first.use}")
    yield Check(f"{what} at the end", f"{highest.good_per_s:,.0f}/s; {highest.use}")
    yield Check("rate sent in the last round", f"{flooded.sent_per_s:,.0f}/s; {flooded.use}")
    late = f"{flooded.late_per_s:,.0f}/s"
    yield Check("took longer than the deadline, whatever the status", late)
    within = f"OK within {env.deadline_s:g} s, of the highest rate"
    for what, percents, bound in (
        ("sent, of the highest rate before and after", sent, _MIN_SENT_PERCENT),
        (within, goodput, _MIN_GOODPUT_PERCENT),
    ):
        listed = ", ".join(f"{percent:.0f}" for percent in sorted(percents))
        yield at_least(f"{what}; median of {listed}", median(percents), bound, "%")
    samples = memory.samples["service"]
    half = len(samples) // 2
    growth_mib, early_mib = (max(part) - before_mib for part in (samples, samples[:half]))
    what = f"memory growth of the query service, from {before_mib:.0f} MiB"
    yield at_most(what, growth_mib, _MAX_GROWTH_MIB, "MiB")
    # If growth were unlimited, memory would grow twice as much in the whole run as in its half.
    late_percent = 100 * (max(samples[half:]) - before_mib) / max(1.0, early_mib)
    what = "memory growth in the second half, of that in the first half"
    yield at_most(what, late_percent, _MAX_LATE_GROWTH_PERCENT, "%")


@dataclass(frozen=True)
class _Round:
    """The measurements of one round of load.

    Attributes:
        good_per_s: OK answers per second within the deadline.
        late_per_s: requests per second that took longer than the deadline.
        sent_per_s: requests sent per second.
        use: h2load's processor use, as text.
    """

    good_per_s: float
    late_per_s: float
    sent_per_s: float
    use: str


class _Load:
    """Generates load with one h2load process per request. The processes share the connections."""

    def __init__(self, address: str, bodies: Sequence[bytes], deadline_s: float) -> None:
        """Send each request once to learn the size of its answer.

        Raises:
            ScenarioError: a request is not answered.
        """
        self._address, self._deadline_s = address, deadline_s
        self._requests = [Request(RETRIEVE, body, deadline_s=deadline_s) for body in bodies]
        self._connections = _CONNECTIONS // len(bodies)
        with grpc.insecure_channel(address) as channel:
            call = method(channel, RETRIEVE)
            try:
                self._sizes = [len(call(body, timeout=30)) + GRPC_PREFIX_BYTES for body in bodies]
            except grpc.RpcError as error:
                message = f"{address}: {error.code().name} ({error.details()})"
                raise ScenarioError(message) from error

    def closed(self, concurrency: int, seconds: float) -> _Round:
        """Keep ``concurrency`` requests in flight for some seconds."""
        streams = concurrency // (len(self._requests) * self._connections)
        return self._run([Closed(self._connections, streams, seconds)] * len(self._sizes), seconds)

    def open(self, rate: float, seconds: float) -> _Round:
        """Send ``rate`` requests per second at fixed times, however many are in flight.

        All connections of one process send at the same times.
        """
        processes = len(self._requests)
        # 1.5 times as many streams as requests can be sent before their deadlines end.
        streams = int(1.5 * rate * self._deadline_s / (processes * self._connections)) + 1
        times_per_s = rate / self._connections
        loads = [
            Schedule(
                self._connections,
                streams,
                [n / times_per_s for n in range(first, int(times_per_s * seconds), processes)],
            )
            for first in range(processes)
        ]
        return self._run(loads, seconds)

    def _run(self, loads: Sequence[Closed | Schedule], seconds: float) -> _Round:
        cpu_before_s = _children_cpu_s()
        try:
            with H2load(self._address, list(zip(self._requests, loads, strict=True))) as running:
                measured = running.finish()
        except H2loadError as error:
            raise ScenarioError(str(error)) from error
        calls = pd.concat([measurement.calls for measurement in measured])
        good = sum(m.data_bytes / size for m, size in zip(measured, self._sizes, strict=True))
        late = int((calls.latency_us > self._deadline_s * 1e6).sum())
        took_s = ((calls.sent_us + calls.latency_us).max() - calls.sent_us.min()) / 1e6
        return _Round(
            good_per_s=(good - late) / took_s,
            late_per_s=late / took_s,
            sent_per_s=len(calls) / seconds,
            use=f"h2load used {(_children_cpu_s() - cpu_before_s) / took_s:.2f} cores",
        )


def _children_cpu_s() -> float:
    """Return the processor time of this process's ended children in seconds."""
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system
