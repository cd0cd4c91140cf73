"""Scenarios: the model server or Redis is killed and restarted, or paused and resumed."""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import redis

from benchmarks.chaos.checks import (
    Check,
    ScenarioError,
    all_ended_with,
    at_most,
    no_requests,
    require,
)
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.outcomes import (
    DEADLINE_EXCEEDED,
    OK,
    UNAVAILABLE,
    failed,
    faulty,
    longest,
)
from benchmarks.chaos.requests import USER_EXCLUDING_SEEN, half_excluding_seen
from benchmarks.reporting import percentile
from query_service.stores.redis import KEY_PREFIX
from retrieval.v1 import retrieval_service_pb2 as pb
from tools.processes import Server
from tools.redis_server import RedisServer

#: Refusals must be quick, so that callers can use something else instead.
_REFUSED_WITHIN_MS = 100
_RECOVERED_WITHIN_S = 2
#: On a busy machine, gRPC may end a call this long after its deadline.
_MAX_OVERRUN_MS = 100
#: After a pause, p99 may be up to this multiple of p99 before the pause, or this long.
_MAX_P99_FACTOR, _MAX_P99_MS = 2, 50


@dataclass(frozen=True)
class _Outage:
    """The times at which an outage began and ended.

    Attributes:
        signalled: when SIGKILL or SIGSTOP was sent.
        exited: when the killed process had ended. The kernel closes the connections only after it
            has freed the memory of the process, so callers cannot notice the kill earlier.
        restored: when the server was ready again, or SIGCONT was sent.
    """

    signalled: float
    exited: float
    restored: float

    def count(self, what: str, affected: pd.DataFrame, during: pd.DataFrame) -> Check:
        """Check that requests were affected, and report how many were due during the outage."""
        due = int((during.due < self.restored).sum())
        text = f"{len(affected):,}; {due:,} were due during the outage"
        return Check(what, text, "some", not affected.empty)

    def recovery(self, what: str, affected: pd.DataFrame, patience: float) -> Check:
        """Check the time from ``restored`` until the last affected request ended."""
        after_s = longest(affected.ended - self.restored)
        return at_most(what, after_s, _RECOVERED_WITHIN_S * patience, "s", 2)


def _interrupt(env: Environment, server: Server, *, pause: bool = False) -> _Outage:
    """Kill and restart a server under load, or pause and resume it, with load before and after."""
    time.sleep(env.steady_s)
    signalled = time.perf_counter()
    (server.pause if pause else server.kill)()
    exited = time.perf_counter()
    time.sleep(env.paused_s if pause else env.down_s)
    (server.resume if pause else server.start)()
    restored = time.perf_counter()
    time.sleep(_RECOVERED_WITHIN_S + env.steady_s)
    return _Outage(signalled, exited, restored)


def kill(env: Environment) -> Iterator[Check]:
    """The only model server is killed with SIGKILL and restarted later."""
    return _kill(env, "kill-model-server", fallback=False)


def kill_with_fallback(env: Environment) -> Iterator[Check]:
    """The only model server is killed, with --fallback popular: every request is answered."""
    return _kill(env, "kill-with-fallback", fallback=True)


def _kill(env: Environment, name: str, *, fallback: bool) -> Iterator[Check]:
    options = ("--fallback", "popular") if fallback else ()
    with env.running(name, *options) as (models, _, load):
        outage = _interrupt(env, models)
        outcomes = load.finish()
    is_before = outcomes.ended < outage.signalled
    before, after = outcomes[is_before], outcomes[~is_before]
    require(before, "before the kill")
    require(outcomes[outcomes.due >= outage.restored + _RECOVERED_WITHIN_S], "after the recovery")
    yield env.check_send_delay(outcomes)
    if fallback:
        what, slowest = "answered by the fallback", "slowest fallback"
        affected = after[after.origin == pb.ORIGIN_POPULARITY]
        yield no_requests("failed", failed(outcomes))
    else:
        what, slowest, affected = "failed", "slowest failure", failed(after)
        yield no_requests("failed before the kill", failed(before))
        yield all_ended_with("failed with UNAVAILABLE", affected, UNAVAILABLE)
    yield no_requests("wrong answers", faulty(outcomes))
    yield outage.count(what, affected, after)
    yield at_most(
        f"{slowest}, counted from the end of the process "
        f"({1e3 * (outage.exited - outage.signalled):.0f} ms after the signal)",
        1e3 * longest(affected.ended - affected.sent.clip(lower=outage.exited)),
        _REFUSED_WITHIN_MS * env.patience,
        "ms",
    )
    yield outage.recovery("recovery after the restart", affected, env.patience)
    yield Check("length of the outage", f"{outage.restored - outage.signalled:.1f} s")


def kill_one_of_two(env: Environment) -> Iterator[Check]:
    """One of two model servers is killed with SIGKILL and restarted later."""
    name = "kill-one-of-two"
    with (
        env.model_server(name) as killed,
        env.model_server(f"{name}-other") as other,
        env.service(name, killed, other) as service,
        env.load(service) as load,
    ):
        outage = _interrupt(env, killed)
        outcomes = load.finish()
    yield env.check_send_delay(outcomes)
    yield no_requests("failed", failed(outcomes))
    yield no_requests("wrong answers", faulty(outcomes))
    second = outcomes[outcomes.due.between(outage.signalled, outage.signalled + 1)]
    yield Check("slowest in the second after the kill", f"{longest(second.latency_ms):.0f} ms")


def pause(env: Environment) -> Iterator[Check]:
    """The model server is paused for some seconds with SIGSTOP, then resumed with SIGCONT."""
    with env.running("pause-model-server") as (models, _, load):
        outage = _interrupt(env, models, pause=True)
        outcomes = load.finish()
    before = outcomes[outcomes.ended < outage.signalled]
    # The first second is a warm-up.
    steady = require(before[before.due >= outcomes.due.min() + 1], "before the pause")
    during = outcomes[outcomes.due.between(outage.signalled, outage.restored)]
    during = require(during, "during the pause")
    after = require(outcomes[outcomes.due >= outage.restored + 1], "after the pause")
    p99_ms = percentile(steady.latency_ms, 99)
    yield env.check_send_delay(outcomes)
    yield no_requests("failed before the pause", failed(before))
    yield no_requests("wrong answers", faulty(outcomes))
    yield Check("failed during the pause", f"{len(failed(during)):,} of {len(during):,}")
    ends = (OK, UNAVAILABLE, DEADLINE_EXCEEDED)
    yield all_ended_with(f"ended as {OK}, {UNAVAILABLE} or {DEADLINE_EXCEEDED}", outcomes, *ends)
    yield _overrun(env, outcomes)
    yield no_requests("failed from 1 s after SIGCONT on", failed(after))
    yield at_most(
        f"p99 from 1 s after SIGCONT on (before the pause: {p99_ms:.0f} ms)",
        percentile(after.latency_ms, 99),
        max(_MAX_P99_FACTOR * p99_ms, _MAX_P99_MS) * env.patience,
        "ms",
    )


def redis_outages(env: Environment) -> Iterator[Check]:
    """Redis is killed and restarted, then paused and resumed."""
    if not shutil.which("redis-server"):
        raise ScenarioError("redis-server is not installed (Debian: apt-get install redis-server)")
    directory = env.work / "redis"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with RedisServer(directory) as server:
        _fill(server.port, env.known.seen)
        requests = half_excluding_seen(env.known)
        store = ("--seen-store", server.url)
        with env.running("redis", *store, requests=requests) as (_, _, load):
            killed = _interrupt(env, server)
            paused = _interrupt(env, server, pause=True)
            outcomes = load.finish()
    needs_redis = outcomes.kind == USER_EXCLUDING_SEEN
    needing, others = outcomes[needs_redis], outcomes[~needs_redis]
    before = outcomes[outcomes.ended < killed.signalled]
    yield env.check_send_delay(outcomes)
    yield no_requests("failed before the kill", failed(before))
    yield no_requests("wrong answers, seen items included", faulty(outcomes))
    yield no_requests("failed without needing Redis", failed(others))
    slowest_ms = longest(others.latency_ms)
    yield Check("slowest request that does not need Redis", f"{slowest_ms:.0f} ms")
    for how, outage, end in (("killed", killed, paused.signalled), ("paused", paused, math.inf)):
        # An outage also affects the requests that were in flight when it began.
        during = needing[needing.ended.between(outage.signalled, end, inclusive="left")]
        lost = failed(during)
        yield outage.count(f"{how}: failed requests that need Redis", lost, during)
        yield all_ended_with(f"{how}: failed with UNAVAILABLE", lost, UNAVAILABLE)
        yield outage.recovery(f"{how}: recovery after the return of Redis", lost, env.patience)
    yield _overrun(env, outcomes)


def _overrun(env: Environment, outcomes: pd.DataFrame) -> Check:
    """Check how long after their deadlines requests ended, at most."""
    overrun_ms = longest(outcomes.latency_ms - 1e3 * env.deadline_s)
    limit_ms = _MAX_OVERRUN_MS * env.patience
    return at_most("longest overrun of the deadline", overrun_ms, limit_ms, "ms")


def _fill(port: int, seen: dict[str, frozenset[str]]) -> None:
    """Write users' seen items to Redis, under the keys that the query service reads."""
    with redis.Redis(port=port) as store:
        for user, items in seen.items():
            store.sadd(KEY_PREFIX + user, *items)
