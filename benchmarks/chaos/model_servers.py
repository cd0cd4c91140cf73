"""The model server dies, stands still, or is one of two."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.chaos.asking import users
from benchmarks.chaos.checks import Check, all_of, at_most, holds, none, some, told
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.outcomes import (
    DEADLINE_EXCEEDED,
    OK,
    UNAVAILABLE,
    Outcome,
    due_between,
    failed,
    faulty,
    last_s,
    past_deadline_ms,
    quantile_ms,
    slowest_ms,
    where,
)
from benchmarks.chaos.processes import now
from retrieval.v1 import retrieval_service_pb2 as pb

#: A refusal has to be quick: the caller has better things to do than to wait.
REFUSED_WITHIN_MS = 100
RECOVERED_WITHIN_S = 2
#: For gRPC to end a call whose deadline has passed, on a machine whose cores are busy.
PAST_DEADLINE_MS = 100
#: As usual: no slower than this many times what it was, or than this.
_USUAL, _USUAL_MS = 2, 50


def kill(lab: Lab) -> Iterator[Check]:
    """Kill -9 of the only model server; it is started again later."""
    outage = _outage(lab, "kill-model-server")
    refused = failed(outage.after)
    yield lab.on_time(outage.every)
    yield none("failed before", failed(outage.before))
    yield none("wrong answers", faulty(outage.every))
    away = f"{outage.away:,} were due while it was away"
    yield holds("failed", bool(refused), f"{len(refused):,}; {away}", "some")
    yield all_of("failed with UNAVAILABLE", refused, [UNAVAILABLE])
    yield outage.slowest("slowest failure", refused, lab.patience)
    yield at_most(
        "recovered after its return",
        last_s(refused, outage.back_at),
        RECOVERED_WITHIN_S * lab.patience,
        "s",
        2,
    )
    yield told("it was away for", f"{outage.back_at - outage.killed_at:.1f} s")


def kill_with_fallback(lab: Lab) -> Iterator[Check]:
    """Kill -9 of the only model server, with --fallback popular: every request is answered."""
    outage = _outage(lab, "kill-with-fallback", "--fallback", "popular")
    popular = where(outage.after, lambda one: one.origin == pb.ORIGIN_POPULARITY)
    yield lab.on_time(outage.every)
    yield none("failed", failed(outage.every))
    yield none("wrong answers", faulty(outage.every))
    away = f"{outage.away:,} were due while it was away"
    yield holds("answered by popularity", bool(popular), f"{len(popular):,}; {away}", "some")
    yield outage.slowest("slowest of those", popular, lab.patience)
    yield at_most(
        "personal again after its return",
        last_s(popular, outage.back_at),
        RECOVERED_WITHIN_S * lab.patience,
        "s",
        2,
    )


@dataclass(frozen=True)
class _Outage:
    """The load around a kill.

    Attributes:
        every: all of it.
        killed_at: when the signal was sent.
        gone_at: when the process was gone. Until then the kernel frees its memory, and only then
            closes its connections: nobody can know earlier.
        back_at: when the server that was started again was ready.
    """

    every: list[Outcome]
    killed_at: float
    gone_at: float
    back_at: float

    @property
    def before(self) -> list[Outcome]:
        """What ended before the kill."""
        return where(self.every, lambda one: one.ended < self.killed_at)

    @property
    def after(self) -> list[Outcome]:
        """All else."""
        return where(self.every, lambda one: one.ended >= self.killed_at)

    @property
    def away(self) -> int:
        """How many requests were due while there was no server."""
        return len(where(self.after, lambda one: one.due < self.back_at))

    def slowest(self, what: str, found: list[Outcome], patience: float) -> Check:
        """The longest that one of them took since the process was gone."""
        took_s = max((one.ended - max(one.sent, self.gone_at) for one in found), default=0.0)
        gone_ms = 1e3 * (self.gone_at - self.killed_at)
        return at_most(
            f"{what}, from when the process was gone ({gone_ms:.0f} ms after the signal)",
            1e3 * max(0.0, took_s),
            REFUSED_WITHIN_MS * patience,
            "ms",
        )


def _outage(lab: Lab, name: str, *arguments: str) -> _Outage:
    with (
        lab.model_server(f"{name}-models") as models,
        lab.service(name, models, arguments=arguments) as service,
        lab.load(service, asked=users(lab.catalogue)) as load,
    ):
        time.sleep(lab.times.calm)
        killed_at = now()
        models.kill()
        gone_at = now()
        time.sleep(lab.times.away)
        models.start()
        back_at = now()
        time.sleep(RECOVERED_WITHIN_S + lab.times.calm)
        every = load.finish()
    outage = _Outage(every, killed_at, gone_at, back_at)
    some(outage.before, "before the kill")
    some(due_between(every, back_at + RECOVERED_WITHIN_S, math.inf), "after the recovery")
    return outage


def kill_one_of_two(lab: Lab) -> Iterator[Check]:
    """Kill -9 of one of two model servers; it is started again later."""
    name = "kill-one-of-two"
    with (
        lab.model_server(f"{name}-models") as killed,
        lab.model_server(f"{name}-others") as other,
        lab.service(name, killed, other) as service,
        lab.load(service, asked=users(lab.catalogue)) as load,
    ):
        time.sleep(lab.times.calm)
        kill_at = now()
        killed.kill()
        time.sleep(lab.times.away)
        killed.start()
        time.sleep(lab.times.calm)
        every = load.finish()
    yield lab.on_time(every)
    yield none("failed", failed(every))
    yield none("wrong answers", faulty(every))
    second = due_between(every, kill_at, kill_at + 1)
    yield told("slowest in the second after the kill", f"{slowest_ms(second):.0f} ms")


def pause(lab: Lab) -> Iterator[Check]:
    """SIGSTOP of the model server for some seconds, then SIGCONT."""
    name = "pause-model-server"
    with (
        lab.model_server(f"{name}-models") as models,
        lab.service(name, models) as service,
        lab.load(service, asked=users(lab.catalogue)) as load,
    ):
        time.sleep(lab.times.calm)
        paused_at = now()
        models.pause()
        time.sleep(lab.times.paused)
        models.resume()
        resumed_at = now()
        time.sleep(1 + lab.times.calm)
        every = load.finish()
    before = where(every, lambda one: one.ended < paused_at)
    # The first second warms up.
    calm = some(due_between(before, every[0].due + 1, paused_at), "before")
    during = some(due_between(every, paused_at, resumed_at), "meanwhile")
    later = some(due_between(every, resumed_at + 1, math.inf), "from 1 s after SIGCONT on")
    usual_ms = quantile_ms(calm, 99)
    yield lab.on_time(every)
    yield none("failed before", failed(before))
    yield none("wrong answers", faulty(every))
    yield told("failed meanwhile", f"{len(failed(during)):,} of {len(during):,}")
    yield all_of(
        f"ended as {OK}, {UNAVAILABLE} or {DEADLINE_EXCEEDED}",
        every,
        [OK, UNAVAILABLE, DEADLINE_EXCEEDED],
    )
    yield at_most(
        "ended past the deadline, at the most",
        past_deadline_ms(every, lab.deadline_s),
        PAST_DEADLINE_MS * lab.patience,
        "ms",
    )
    yield none("failed from 1 s after SIGCONT on", failed(later))
    yield at_most(
        f"p99 from then on (before: {usual_ms:.0f} ms)",
        quantile_ms(later, 99),
        max(_USUAL * usual_ms, _USUAL_MS) * lab.patience,
        "ms",
    )
