"""Redis, the store of seen items, is killed and paused."""

import itertools
import math
import shutil
import time
from collections.abc import Iterator, Sequence

from benchmarks.chaos.catalogue import Catalogue
from benchmarks.chaos.checks import (
    Check,
    ScenarioError,
    all_ended_with,
    at_most,
    expect,
    information,
    no_requests,
)
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.model_servers import OVERRUN_MS, RECOVERED_WITHIN_S
from benchmarks.chaos.outcomes import (
    UNAVAILABLE,
    Outcome,
    due_between,
    ended_before,
    failed,
    faulty,
    last_after_s,
    overrun_ms,
    slowest_ms,
)
from benchmarks.chaos.requests import (
    USER_EXCLUDING_SEEN,
    Request,
    alternate,
    excluding_seen,
    for_users,
)
from tools.redis_server import RedisServer

_DISTINCT_REQUESTS = 1000


def redis_outages(env: Environment) -> Iterator[Check]:
    """Redis is killed and started again, then paused and resumed."""
    if not shutil.which("redis-server"):
        raise ScenarioError("redis-server is not installed (Debian: apt-get install redis-server)")
    directory = env.work / "redis"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with RedisServer(directory) as redis:
        _fill(redis.port, env.catalogue)
        with (
            env.model_server("redis-models") as models,
            env.service("redis", models, options=("--seen-store", redis.url)) as service,
            env.load(service, requests=_requests(env)) as load,
        ):
            time.sleep(env.durations.steady_s)
            killed_at = time.perf_counter()
            redis.kill()
            time.sleep(env.durations.down_s)
            redis.start()
            restarted_at = time.perf_counter()
            time.sleep(RECOVERED_WITHIN_S + env.durations.steady_s)
            paused_at = time.perf_counter()
            redis.pause()
            time.sleep(env.durations.paused_s)
            redis.resume()
            resumed_at = time.perf_counter()
            time.sleep(RECOVERED_WITHIN_S + env.durations.steady_s)
            outcomes = load.finish()
    others = [one for one in outcomes if one.kind != USER_EXCLUDING_SEEN]
    yield env.check_send_delay(outcomes)
    yield no_requests("failed before the kill", failed(ended_before(outcomes, killed_at)))
    yield no_requests("wrong answers, seen items included", faulty(outcomes))
    yield no_requests("failed without needing Redis", failed(others))
    yield information("slowest request that does not need Redis", f"{slowest_ms(others):.0f} ms")
    yield from _check_outage(env, "killed", outcomes, killed_at, restarted_at, paused_at)
    yield from _check_outage(env, "paused", outcomes, paused_at, resumed_at, math.inf)
    yield at_most(
        "longest overrun of the deadline",
        overrun_ms(outcomes, env.deadline_s),
        OVERRUN_MS * env.patience,
        "ms",
    )


def _check_outage(
    env: Environment, how: str, outcomes: Sequence[Outcome], begin: float, back: float, end: float
) -> Iterator[Check]:
    # Requests that were in flight at the beginning of an outage belong to it.
    needing = [
        one for one in outcomes if one.kind == USER_EXCLUDING_SEEN and begin <= one.ended < end
    ]
    lost = failed(needing)
    due = len(due_between(needing, begin, back))
    yield expect(
        f"{how}: failed requests that need Redis",
        bool(lost),
        f"{len(lost):,}; {due:,} were due during the outage",
        "some",
    )
    yield all_ended_with(f"{how}: failed with UNAVAILABLE", lost, [UNAVAILABLE])
    yield at_most(
        f"{how}: recovery after the return of Redis",
        last_after_s(lost, back),
        RECOVERED_WITHIN_S * env.patience,
        "s",
        2,
    )


def _requests(env: Environment) -> list[Request]:
    requests = alternate(for_users(env.catalogue), excluding_seen(env.catalogue))
    return list(itertools.islice(requests, _DISTINCT_REQUESTS))


def _fill(port: int, catalogue: Catalogue) -> None:
    """Write what users have seen as the service reads it."""
    import redis

    with redis.Redis(port=port) as store:
        for user, items in catalogue.seen.items():
            store.sadd(f"shortlist:seen:{user}", *items)
