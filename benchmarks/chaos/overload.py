"""Twice the load that can be answered: the answers in time must hardly get fewer."""

import shutil
from collections.abc import Iterator
from statistics import mean, median

from benchmarks.chaos.asking import bodies
from benchmarks.chaos.checks import Broken, Check, at_least, at_most, told
from benchmarks.chaos.h2load import H2load
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.processes import MemoryLog, memory_mib

GOODPUT_PERCENT = 90
#: Of the top, that h2load has to send: it is to be twice, and h2load has to keep up.
_SENT_PERCENT = 170
#: A second's worth of requests has its place in the query service, be they refused in the end.
_GROWN_MIB = 128
_STILL_PERCENT = 150
_PROCESSES, _CONNECTIONS = 2, 8
_CONCURRENCIES = (32, 64, 128)
_ROUNDS = 3


def overload(lab: Lab) -> Iterator[Check]:
    """Twice the highest rate, in the open loop."""
    if not shutil.which("h2load"):
        raise Broken("h2load is not installed (Debian: nghttp2-client)")
    with lab.model_server("overload-models") as models, lab.service("overload", models) as service:
        load = H2load(
            service.address, bodies(lab.catalogue, _PROCESSES), _CONNECTIONS, lab.deadline_s
        )
        load.closed(_CONCURRENCIES[0], 3)  # warms up
        seconds = max(2.0, lab.times.overload / 3)
        tops = {one: load.closed(one, seconds) for one in _CONCURRENCIES}
        at = max(tops, key=lambda one: tops[one].good_per_s)
        before = memory_mib(service.process)
        shares: list[float] = []
        sent: list[float] = []
        with MemoryLog(0.2, service=service.process) as memory:
            # A machine's speed drifts: each turn between two looks at the top.
            top = tops[at]
            for _ in range(_ROUNDS):
                turn = load.open(2 * top.good_per_s, lab.times.overload)
                after = load.closed(at, seconds)
                of_top = 100 / mean([top.good_per_s, after.good_per_s])
                shares.append(turn.good_per_s * of_top)
                sent.append(turn.sent_per_s * of_top)
                top = after
    yield told(f"the top: {at} at a time, at first", _said(tops[at].good_per_s, tops[at].cores))
    yield told("the same in the end", _said(top.good_per_s, top.cores))
    yield told("sent in the last turn", _said(turn.sent_per_s, turn.cores))
    yield told("took longer, OK or not", f"{turn.late_per_s:,.0f}/s")
    yield at_least(
        f"sent, of the top before and after; the median of {_listed(sent)}",
        median(sent),
        _SENT_PERCENT,
        "%",
    )
    yield at_least(
        f"OK within {lab.deadline_s:g} s, of the same; the median of {_listed(shares)}",
        median(shares),
        GOODPUT_PERCENT,
        "%",
    )
    half = len(memory.samples["service"]) // 2
    early, late = memory.samples["service"][:half], memory.samples["service"][half:]
    yield at_most(
        f"memory of the query service grew (from {before:.0f} MiB) by",
        max(early + late) - before,
        _GROWN_MIB,
        "MiB",
    )
    # What is not bounded grows twice as much in twice the time.
    yield at_most(
        "the same, of what it grew by in the first half",
        100 * (max(late) - before) / max(1.0, max(early) - before),
        _STILL_PERCENT,
        "%",
    )


def _listed(shares: list[float]) -> str:
    return ", ".join(f"{share:.0f}" for share in sorted(shares))


def _said(rate: float, cores: float) -> str:
    return f"{rate:,.0f}/s; h2load used {cores:.2f} cores"
