"""The model server is killed, paused, or is one of two."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.chaos.checks import (
    Check,
    all_ended_with,
    at_most,
    expect,
    information,
    no_requests,
    require,
)
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.outcomes import (
    DEADLINE_EXCEEDED,
    OK,
    UNAVAILABLE,
    Outcome,
    due_between,
    ended_before,
    failed,
    faulty,
    last_after_s,
    overrun_ms,
    quantile_ms,
    slowest_ms,
)
from benchmarks.chaos.requests import for_users
from retrieval.v1 import retrieval_service_pb2 as pb

#: A refusal has to be quick, because its caller has something better to do than to wait.
REFUSED_WITHIN_MS = 100
RECOVERED_WITHIN_S = 2
#: The time that gRPC may take to end a call past its deadline on a busy machine.
OVERRUN_MS = 100
#: After a pause, p99 may be this many times what it was, or this long.
_P99_FACTOR, _P99_MS = 2, 50


def kill(env: Environment) -> Iterator[Check]:
    """Kill -9 of the only model server; it is started again later."""
    outage = _kill_and_restart(env, "kill-model-server")
    refused = failed(outage.after)
    yield env.check_send_delay(outage.outcomes)
    yield no_requests("failed before the kill", failed(outage.before))
    yield no_requests("wrong answers", faulty(outage.outcomes))
    yield expect("failed", bool(refused), outage.count(refused), "some")
    yield all_ended_with("failed with UNAVAILABLE", refused, [UNAVAILABLE])
    yield outage.slowest("slowest failure", refused, env.patience)
    yield at_most(
        "recovery after the restart",
        last_after_s(refused, outage.restarted_at),
        RECOVERED_WITHIN_S * env.patience,
        "s",
        2,
    )
    yield information("length of the outage", f"{outage.restarted_at - outage.killed_at:.1f} s")


def kill_with_fallback(env: Environment) -> Iterator[Check]:
    """Kill -9 of the only model server, with --fallback popular: every request is answered."""
    outage = _kill_and_restart(env, "kill-with-fallback", "--fallback", "popular")
    popular = [one for one in outage.after if one.origin == pb.ORIGIN_POPULARITY]
    yield env.check_send_delay(outage.outcomes)
    yield no_requests("failed", failed(outage.outcomes))
    yield no_requests("wrong answers", faulty(outage.outcomes))
    yield expect("answered by the fallback", bool(popular), outage.count(popular), "some")
    yield outage.slowest("slowest fallback", popular, env.patience)
    yield at_most(
        "recovery after the restart",
        last_after_s(popular, outage.restarted_at),
        RECOVERED_WITHIN_S * env.patience,
        "s",
        2,
    )


@dataclass(frozen=True)
class _Outage:
    """The outcomes around a kill.

    Attributes:
        outcomes: all outcomes.
        killed_at: when SIGKILL was sent.
        ended_at: when the process had ended. The kernel frees its memory first and closes its
            connections then, so nobody can notice earlier.
        restarted_at: when the server was ready again.
    """

    outcomes: list[Outcome]
    killed_at: float
    ended_at: float
    restarted_at: float

    @property
    def before(self) -> list[Outcome]:
        """Return the requests that ended before the kill."""
        return ended_before(self.outcomes, self.killed_at)

    @property
    def after(self) -> list[Outcome]:
        """Return all other requests."""
        return [one for one in self.outcomes if one.ended >= self.killed_at]

    def count(self, outcomes: list[Outcome]) -> str:
        """Return the number of the outcomes, beside that of requests due during the outage."""
        due = sum(one.due < self.restarted_at for one in self.after)
        return f"{len(outcomes):,}; {due:,} were due during the outage"

    def slowest(self, what: str, outcomes: list[Outcome], patience: float) -> Check:
        """Check the longest latency, counted from the end of the process at the earliest."""
        latencies = (one.ended - max(one.sent, self.ended_at) for one in outcomes)
        end_ms = 1e3 * (self.ended_at - self.killed_at)
        return at_most(
            f"{what}, counted from the end of the process ({end_ms:.0f} ms after the signal)",
            1e3 * max(0.0, max(latencies, default=0.0)),
            REFUSED_WITHIN_MS * patience,
            "ms",
        )


def _kill_and_restart(env: Environment, name: str, *options: str) -> _Outage:
    with (
        env.model_server(f"{name}-models") as models,
        env.service(name, models, options=options) as service,
        env.load(service, requests=for_users(env.catalogue)) as load,
    ):
        time.sleep(env.durations.steady_s)
        killed_at = time.perf_counter()
        models.kill()
        ended_at = time.perf_counter()
        time.sleep(env.durations.down_s)
        models.start()
        restarted_at = time.perf_counter()
        time.sleep(RECOVERED_WITHIN_S + env.durations.steady_s)
        outage = _Outage(load.finish(), killed_at, ended_at, restarted_at)
    require(outage.before, "before the kill")
    recovered_at = restarted_at + RECOVERED_WITHIN_S
    require(due_between(outage.outcomes, recovered_at, math.inf), "after the recovery")
    return outage


def kill_one_of_two(env: Environment) -> Iterator[Check]:
    """Kill -9 of one of two model servers; it is started again later."""
    name = "kill-one-of-two"
    with (
        env.model_server(f"{name}-models") as killed,
        env.model_server(f"{name}-others") as other,
        env.service(name, killed, other) as service,
        env.load(service, requests=for_users(env.catalogue)) as load,
    ):
        time.sleep(env.durations.steady_s)
        killed_at = time.perf_counter()
        killed.kill()
        time.sleep(env.durations.down_s)
        killed.start()
        time.sleep(env.durations.steady_s)
        outcomes = load.finish()
    yield env.check_send_delay(outcomes)
    yield no_requests("failed", failed(outcomes))
    yield no_requests("wrong answers", faulty(outcomes))
    second = due_between(outcomes, killed_at, killed_at + 1)
    yield information("slowest in the second after the kill", f"{slowest_ms(second):.0f} ms")


def pause(env: Environment) -> Iterator[Check]:
    """SIGSTOP of the model server for some seconds, then SIGCONT."""
    name = "pause-model-server"
    with (
        env.model_server(f"{name}-models") as models,
        env.service(name, models) as service,
        env.load(service, requests=for_users(env.catalogue)) as load,
    ):
        time.sleep(env.durations.steady_s)
        paused_at = time.perf_counter()
        models.pause()
        time.sleep(env.durations.paused_s)
        models.resume()
        resumed_at = time.perf_counter()
        time.sleep(1 + env.durations.steady_s)
        outcomes = load.finish()
    before = ended_before(outcomes, paused_at)
    # The first second is a warm-up.
    steady = require(due_between(before, outcomes[0].due + 1, paused_at), "before the pause")
    during = require(due_between(outcomes, paused_at, resumed_at), "during the pause")
    after = require(due_between(outcomes, resumed_at + 1, math.inf), "after the pause")
    p99_ms = quantile_ms(steady, 99)
    yield env.check_send_delay(outcomes)
    yield no_requests("failed before the pause", failed(before))
    yield no_requests("wrong answers", faulty(outcomes))
    yield information("failed during the pause", f"{len(failed(during)):,} of {len(during):,}")
    yield all_ended_with(
        f"ended as {OK}, {UNAVAILABLE} or {DEADLINE_EXCEEDED}",
        outcomes,
        [OK, UNAVAILABLE, DEADLINE_EXCEEDED],
    )
    yield at_most(
        "longest overrun of the deadline",
        overrun_ms(outcomes, env.deadline_s),
        OVERRUN_MS * env.patience,
        "ms",
    )
    yield no_requests("failed from 1 s after SIGCONT on", failed(after))
    yield at_most(
        f"p99 from 1 s after SIGCONT on (before the pause: {p99_ms:.0f} ms)",
        quantile_ms(after, 99),
        max(_P99_FACTOR * p99_ms, _P99_MS) * env.patience,
        "ms",
    )
