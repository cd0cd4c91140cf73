"""Redis, the store of seen items, dies and stands still."""

import math
import shutil
import time
from collections.abc import Iterator, Sequence

from benchmarks.chaos.asking import SEEN, Asked, in_turn, unseen, users
from benchmarks.chaos.catalogue import Catalogue
from benchmarks.chaos.checks import Broken, Check, all_of, at_most, holds, none, told
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.model_servers import PAST_DEADLINE_MS, RECOVERED_WITHIN_S
from benchmarks.chaos.outcomes import (
    UNAVAILABLE,
    Outcome,
    due_between,
    failed,
    faulty,
    last_s,
    past_deadline_ms,
    slowest_ms,
    where,
)
from benchmarks.chaos.processes import Redis, now

_ROUND = 1000


def redis_away(lab: Lab) -> Iterator[Check]:
    """Redis is killed and started again, then paused and resumed."""
    if not shutil.which("redis-server"):
        raise Broken("redis-server is not installed (Debian: redis-server)")
    with Redis(lab.work / "redis", lab.logs / "redis.log") as redis:
        _fill(redis.port, lab.catalogue)
        with (
            lab.model_server("redis-models") as models,
            lab.service(
                "redis",
                models,
                arguments=("--seen-store", f"redis://127.0.0.1:{redis.port}/0"),
            ) as service,
            lab.load(service, asked=_asked(lab)) as load,
        ):
            time.sleep(lab.times.calm)
            kill_at = now()
            redis.kill()
            time.sleep(lab.times.away)
            redis.start()
            back_at = now()
            time.sleep(RECOVERED_WITHIN_S + lab.times.calm)
            paused_at = now()
            redis.pause()
            time.sleep(lab.times.paused)
            redis.resume()
            resumed_at = now()
            time.sleep(RECOVERED_WITHIN_S + lab.times.calm)
            every = load.finish()
    others = where(every, lambda one: one.kind != SEEN)
    yield lab.on_time(every)
    yield none("failed before", failed(where(every, lambda one: one.ended < kill_at)))
    yield none("wrong answers, an item that was seen among them", faulty(every))
    yield none("failed that do not need it", failed(others))
    yield told("slowest that does not need it", f"{slowest_ms(others):.0f} ms")
    yield from _outage(lab, "killed", every, kill_at, back_at, paused_at)
    yield from _outage(lab, "paused", every, paused_at, resumed_at, math.inf)
    yield at_most(
        "ended past the deadline, at the most",
        past_deadline_ms(every, lab.deadline_s),
        PAST_DEADLINE_MS * lab.patience,
        "ms",
    )


def _outage(
    lab: Lab, how: str, every: Sequence[Outcome], begin: float, back: float, end: float
) -> Iterator[Check]:
    # What was under way when the harm was done is its own, and not that of the one before.
    needing = where(every, lambda one: one.kind == SEEN and begin <= one.ended < end)
    lost = failed(needing)
    away = due_between(needing, begin, back)
    yield holds(
        f"{how}: failed that need it",
        bool(lost),
        f"{len(lost):,}; {len(away):,} were due while it was away",
        "some",
    )
    yield all_of(f"{how}: failed with UNAVAILABLE", lost, [UNAVAILABLE])
    yield at_most(
        f"{how}: recovered after its return",
        last_s(lost, back),
        RECOVERED_WITHIN_S * lab.patience,
        "s",
        2,
    )


def _asked(lab: Lab) -> list[Asked]:
    turns = in_turn(users(lab.catalogue), unseen(lab.catalogue))
    return [next(turns) for _ in range(_ROUND)]


def _fill(port: int, catalogue: Catalogue) -> None:
    """What users have seen, as the service reads it; written to the disk for the next start."""
    import redis

    with redis.Redis(port=port) as store:
        for user, items in catalogue.seen.items():
            store.sadd(f"shortlist:seen:{user}", *items)
        store.save()
