"""Twice the load that can be answered: the answers in time must hardly get fewer."""

import shutil
from collections.abc import Iterator

from benchmarks.chaos.asking import bodies
from benchmarks.chaos.checks import Broken, Check, at_least, at_most, told
from benchmarks.chaos.h2load import H2load
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.processes import MemoryLog, memory_mib

GOODPUT_SHARE = 0.9
#: A second's worth of requests has its place in the query service, be they refused in the end.
_GROWN_MIB = 128
#: What is bounded does not grow with time.
_STILL_PERCENT = 10
_CONNECTIONS = 8
_CONCURRENCIES = (32, 64, 128)


def overload(lab: Lab) -> Iterator[Check]:
    """Twice the highest rate, in the open loop."""
    if not shutil.which("h2load"):
        raise Broken("h2load is not installed (Debian: nghttp2-client)")
    with lab.model_server("overload-models") as models, lab.service("overload", models) as service:
        load = H2load(service.address, bodies(lab.catalogue, _CONNECTIONS), lab.deadline_s)
        load.closed(_CONCURRENCIES[0], 3)  # warms up
        seconds = max(2.0, lab.times.overload / 3)
        tops = {one: load.closed(one, seconds) for one in _CONCURRENCIES}
        at = max(tops, key=lambda one: tops[one].good_per_s)
        top = tops[at]
        before = memory_mib(service.process)
        with MemoryLog(0.2, service=service.process) as memory:
            turn = load.open(2 * top.good_per_s, lab.times.overload)
        after = load.closed(at, seconds)
    yield told(
        f"the top: {at} at a time, OK within {lab.deadline_s:g} s", _said(top.good_per_s, top.cores)
    )
    yield told("sent", _said(turn.sent_per_s, turn.cores))
    yield at_least("OK within the deadline", turn.good_per_s, GOODPUT_SHARE * top.good_per_s, "/s")
    yield told("share of the top", f"{turn.good_per_s / top.good_per_s:.0%}")
    yield at_least("the top afterwards", after.good_per_s, GOODPUT_SHARE * top.good_per_s, "/s")
    half = len(memory.samples["service"]) // 2
    early, late = memory.samples["service"][:half], memory.samples["service"][half:]
    yield at_most(
        f"memory of the query service grew (from {before:.0f} MiB) by",
        max(early + late) - before,
        _GROWN_MIB,
        "MiB",
    )
    yield at_most(
        "its peak in the second half, against the first",
        100 * max(late) / max(early) - 100,
        _STILL_PERCENT,
        "%",
    )


def _said(rate: float, cores: float) -> str:
    return f"{rate:,.0f}/s; h2load used {cores:.2f} cores"
