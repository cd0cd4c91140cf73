"""Minutes of everything that callers send, during which memory must not grow."""

import statistics
import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.chaos.checks import Check, at_most, information, no_requests
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.outcomes import failed, faulty, quantile_ms
from benchmarks.chaos.requests import mixed
from tools.usage import MemoryLog

_MAX_GROWTH_PERCENT = 5
_MINUTE_S = 60
#: Share of the usual rate, because a batch is many requests.
_SHARE_OF_RATE = 0.6


def soak(env: Environment) -> Iterator[Check]:
    """Mixed load: users, items, recent items, exclusions, seen items, batches, invalid requests."""
    seen = ("--seen-store", f"sqlite:{env.catalogue.seen_store}")
    with (
        env.model_server("soak-models") as models,
        env.service("soak", models, options=seen) as service,
        MemoryLog(1.0, service=service.process, models=models.process) as memory,
        env.load(service, requests=mixed(env.catalogue), rate=_SHARE_OF_RATE * env.rate) as load,
    ):
        time.sleep(env.durations.soak_s)
        outcomes = load.finish()
    kinds = Counter(one.kind for one in outcomes)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    yield information("calls", f"{len(outcomes):,}: {counts}")
    yield env.check_send_delay(outcomes)
    yield no_requests("failed", failed(outcomes))
    yield no_requests("wrong answers", faulty(outcomes))
    p50_ms, p99_ms = quantile_ms(outcomes, 50), quantile_ms(outcomes, 99)
    yield information("p50, p99", f"{p50_ms:.1f}, {p99_ms:.1f} ms")
    # The minutes of a short run are shorter.
    minute_s = int(min(_MINUTE_S, env.durations.soak_s / 4))
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
