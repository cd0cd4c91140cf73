"""Twice the load that can be answered: the answers within their deadline must hardly get fewer.

h2load makes the load. Each of its processes sends one and the same request, whose answer has one
size, so that the bytes of all answers are the number of OK answers, exactly. Requests that took
longer than the deadline do not count, whatever their status.
"""

import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, median

import grpc

from benchmarks.chaos.checks import Check, ScenarioError, at_least, at_most, information
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.requests import without_exclusions
from query_service.load_test.requests import RETRIEVE
from tools import h2load
from tools.h2load import GRPC_PREFIX_BYTES, Closed, H2load, H2loadError, Request, Schedule
from tools.usage import MemoryLog, memory_mib

GOODPUT_PERCENT = 90
#: What h2load has to send at least, of the highest rate; it is told to send 200 %.
_SENT_PERCENT = 170
#: The query service keeps a second's worth of requests, even if it refuses them in the end.
_MAX_GROWTH_MIB = 128
_MAX_LATE_GROWTH_PERCENT = 150
_PROCESSES, _CONNECTIONS = 2, 8
_CONCURRENCIES = (32, 64, 128)
_ROUNDS = 3


def overload(env: Environment) -> Iterator[Check]:
    """Twice the highest rate, in the open loop."""
    if not h2load.installed():
        raise ScenarioError(h2load.INSTALL_HINT)
    with env.model_server("overload-models") as models, env.service("overload", models) as service:
        bodies = without_exclusions(env.catalogue, _PROCESSES)
        load = _Load(service.address, bodies, env.deadline_s)
        load.closed(_CONCURRENCIES[0], 3)  # warms up
        seconds = max(2.0, env.durations.overload_s / 3)
        rounds = {one: load.closed(one, seconds) for one in _CONCURRENCIES}
        concurrency = max(rounds, key=lambda one: rounds[one].good_per_s)
        first = top = rounds[concurrency]
        before_mib = sum(memory_mib(service.process))
        goodput: list[float] = []
        sent: list[float] = []
        with MemoryLog(0.2, service=service.process) as memory:
            # The speed of a machine drifts, so the highest rate is measured before and after.
            for _ in range(_ROUNDS):
                flooded = load.open(2 * top.good_per_s, env.durations.overload_s)
                after = load.closed(concurrency, seconds)
                percent = 100 / mean([top.good_per_s, after.good_per_s])
                goodput.append(flooded.good_per_s * percent)
                sent.append(flooded.sent_per_s * percent)
                top = after
    what = f"highest rate, at concurrency {concurrency},"
    yield information(f"{what} at the beginning", _rate(first.good_per_s, first.cores))
    yield information(f"{what} at the end", _rate(top.good_per_s, top.cores))
    yield information("rate sent in the last round", _rate(flooded.sent_per_s, flooded.cores))
    yield information(
        "took longer than the deadline, whatever the status", f"{flooded.late_per_s:,.0f}/s"
    )
    yield at_least(
        f"sent, of the highest rate before and after; median of {_listed(sent)}",
        median(sent),
        _SENT_PERCENT,
        "%",
    )
    yield at_least(
        f"OK within {env.deadline_s:g} s, of the highest rate; median of {_listed(goodput)}",
        median(goodput),
        GOODPUT_PERCENT,
        "%",
    )
    yield from _check_memory(memory.samples["service"], before_mib)


def _check_memory(samples: Sequence[float], before_mib: float) -> Iterator[Check]:
    half = len(samples) // 2
    growth_mib, early_mib = max(samples) - before_mib, max(samples[:half]) - before_mib
    yield at_most(
        f"memory growth of the query service, from {before_mib:.0f} MiB",
        growth_mib,
        _MAX_GROWTH_MIB,
        "MiB",
    )
    # What is not bounded grows twice as much in twice the time.
    yield at_most(
        "memory growth in the second half, of that in the first half",
        100 * (max(samples[half:]) - before_mib) / max(1.0, early_mib),
        _MAX_LATE_GROWTH_PERCENT,
        "%",
    )


@dataclass(frozen=True)
class _Round:
    """What one round measured.

    Attributes:
        good_per_s: OK answers per second within the deadline.
        late_per_s: requests per second that took longer than the deadline.
        sent_per_s: requests sent per second.
        cores: processor use of h2load.
    """

    good_per_s: float
    late_per_s: float
    sent_per_s: float
    cores: float


class _Load:
    """One h2load process for each request, which share the connections."""

    def __init__(self, address: str, bodies: Sequence[bytes], deadline_s: float) -> None:
        """Send each request once, for the size of its answer.

        Raises:
            ScenarioError: a request is not answered.
        """
        self._address, self._deadline_s = address, deadline_s
        self._requests = [Request(RETRIEVE, body, deadline_s=deadline_s) for body in bodies]
        self._connections = _CONNECTIONS // len(bodies)
        with grpc.insecure_channel(address) as channel:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RETRIEVE)
            try:
                self._sizes = [len(ask(body, timeout=30)) + GRPC_PREFIX_BYTES for body in bodies]
            except grpc.RpcError as error:
                message = f"{address}: {error.code().name} ({error.details()})"
                raise ScenarioError(message) from error

    def closed(self, concurrency: int, seconds: float) -> _Round:
        """Keep ``concurrency`` requests in flight."""
        streams = concurrency // (len(self._requests) * self._connections)
        return self._run([Closed(self._connections, streams, seconds)] * len(self._sizes), seconds)

    def open(self, rate: float, seconds: float) -> _Round:
        """Send ``rate`` requests a second at fixed times, however many are in flight.

        The connections of a process send at the same times.
        """
        processes = len(self._requests)
        # Enough for all requests within their deadlines, and half as many again.
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
        calls = [call for one in measured for call in one.calls]
        if not calls:
            raise ScenarioError("h2load sent no request")
        good = sum(one.data_bytes / size for one, size in zip(measured, self._sizes, strict=True))
        late = sum(call.latency_us > self._deadline_s * 1e6 for call in calls)
        begun_us = min(call.sent_us for call in calls)
        took_s = (max(call.sent_us + call.latency_us for call in calls) - begun_us) / 1e6
        return _Round(
            good_per_s=(good - late) / took_s,
            late_per_s=late / took_s,
            sent_per_s=len(calls) / seconds,
            cores=(_children_cpu_s() - cpu_before_s) / took_s,
        )


def _children_cpu_s() -> float:
    """Return the processor time of the children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _listed(shares: list[float]) -> str:
    return ", ".join(f"{share:.0f}" for share in sorted(shares))


def _rate(per_s: float, cores: float) -> str:
    return f"{per_s:,.0f}/s; h2load used {cores:.2f} cores"
