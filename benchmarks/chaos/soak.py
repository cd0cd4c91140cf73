"""Scenario: all kinds of requests for minutes, during which memory must not grow."""

import statistics
import time
from collections.abc import Iterator

from benchmarks.chaos.checks import Check, at_most, no_requests
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.outcomes import failed, faulty
from benchmarks.chaos.requests import mixed
from benchmarks.reporting import percentile
from tools.usage import MemoryLog

_MAX_GROWTH_PERCENT = 5
_MINUTE_S = 60
#: The share of the usual rate that is sent: it is below 1 because batches contain many requests.
_SHARE_OF_RATE = 0.6


def soak(env: Environment) -> Iterator[Check]:
    """Mixed load: users, items, recent items, exclusions, seen items, batches, invalid requests."""
    seen_store = f"sqlite:{env.known.seen_store}"
    with (
        env.servers("soak", "--seen-store", seen_store) as (models, service),
        MemoryLog(1.0, service=service.process, models=models.process) as memory,
        env.load(service, requests=mixed(env.known), rate=_SHARE_OF_RATE * env.rate) as load,
    ):
        time.sleep(env.soak_s)
        outcomes = load.finish()
    kinds = outcomes.kind.value_counts()
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    yield Check("calls", f"{len(outcomes):,}: {counts}")
    yield env.check_send_delay(outcomes)
    yield no_requests("failed", failed(outcomes))
    yield no_requests("wrong answers", faulty(outcomes))
    p50_ms, p99_ms = (percentile(outcomes.latency_ms, percent) for percent in (50, 99))
    yield Check("p50, p99", f"{p50_ms:.1f}, {p99_ms:.1f} ms")
    # In a short run, a "minute" is a quarter of the run.
    minute_s = int(min(_MINUTE_S, env.soak_s / 4))
    for key, name in (("service", "query service"), ("models", "model server")):
        samples = memory.samples[key]
        first = statistics.median(samples[minute_s : 2 * minute_s])
        last = statistics.median(samples[-minute_s:])
        yield at_most(
            f"memory growth of the {name}, from {first:,.0f} MiB after {minute_s} s",
            100 * (last / first - 1),
            _MAX_GROWTH_PERCENT,
            "%",
            1,
        )
