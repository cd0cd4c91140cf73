"""Minutes of everything that callers do: memory must stay as it is."""

import statistics
import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.chaos.asking import mixed
from benchmarks.chaos.checks import Check, at_most, none, told
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.outcomes import failed, faulty, quantile_ms
from benchmarks.chaos.processes import MemoryLog

_GROWN_PERCENT = 5
_MINUTE_S = 60
#: Batches are many requests in one.
_SHARE_OF_RATE = 0.6


def soak(lab: Lab) -> Iterator[Check]:
    """Mixed load: users, items, recent items, exclusions, seen items, batches, nonsense."""
    seen = ("--seen-store", f"sqlite:{lab.catalogue.seen_store}")
    with (
        lab.model_server("soak-models") as models,
        lab.service("soak", models, arguments=seen) as service,
        MemoryLog(1.0, service=service.process, models=models.process) as memory,
        lab.load(service, asked=mixed(lab.catalogue), rate=_SHARE_OF_RATE * lab.rate) as load,
    ):
        time.sleep(lab.times.soak)
        every = load.finish()
    kinds = Counter(one.kind for one in every)
    yield told(
        "calls", f"{len(every):,}: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
    )
    yield lab.on_time(every)
    yield none("failed", failed(every))
    yield none("wrong answers", faulty(every))
    yield told("p50, p99", f"{quantile_ms(every, 50):.1f}, {quantile_ms(every, 99):.1f} ms")
    # A short run's minutes are shorter.
    minute = int(min(_MINUTE_S, lab.times.soak / 4))
    for name, samples in memory.samples.items():
        first = statistics.median(samples[minute : 2 * minute])
        last = statistics.median(samples[-minute:])
        what = (
            f"memory of the {_NAMES[name]}, after the first {minute} s, {first:,.0f} MiB, grew by"
        )
        yield at_most(what, 100 * (last / first - 1), _GROWN_PERCENT, "%", 1)


_NAMES = {"service": "query service", "models": "model server"}
