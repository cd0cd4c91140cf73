"""A worker of the query service dies; an instance is told to end."""

import threading
import time
import urllib.request
from collections.abc import Iterator

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.chaos.asking import users
from benchmarks.chaos.checks import Broken, Check, all_of, at_least, at_most, holds, none, told
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.outcomes import CANCELLED, OK, UNAVAILABLE, Outcome, failed, faulty, where
from benchmarks.chaos.processes import Server, free_port, now, wait_until

REPLACED_WITHIN_S = 2
#: What a client says that could not connect: such a request was never accepted.
_REFUSED = "Connection refused"
_GRACE_S = 5
_LAME_DUCK_S = 2
#: For which the model server stands still before SIGTERM, and after it.
_SLOW_S = 0.1
#: How long a caller may take to notice that its connection has ended.
_HEARD_S = 0.05


def kill_worker(lab: Lab) -> Iterator[Check]:
    """Kill -9 of one of two workers."""
    name = "kill-worker"
    with (
        lab.model_server(f"{name}-models") as models,
        lab.service(name, models, arguments=("--workers", "2")) as service,
        lab.load(service, asked=users(lab.catalogue)) as load,
    ):
        time.sleep(lab.times.calm)
        worker, ports = _busiest(service)
        mine = {number for number, port in enumerate(load.ports) if port in ports}
        kill_at = now()
        worker.kill()
        worker.wait()
        gone_at = now()
        replaced_s = wait_until(
            lambda: _listening(service) >= 2, 10, "a worker in the place of the killed one"
        )
        replaced_s += gone_at - kill_at
        time.sleep(lab.times.calm)
        every = load.finish()
    lost = failed(every)
    in_flight = where(lost, lambda one: one.connection in mine and one.ended >= kill_at)
    # A caller sends into a dead connection until it notices; the worker never sees those.
    limit = gone_at + _HEARD_S * lab.patience
    reconnected_at = {
        number: _first_answered(every, number, since=gone_at, until=limit) for number in mine
    }
    in_flight = where(in_flight, lambda one: one.sent < reconnected_at[one.connection])
    yield told("its connections", f"{len(mine)} of {len(load.ports)}")
    yield lab.on_time(every)
    yield told("failed", f"{len(lost)}; {len(in_flight)} were in flight at the worker")
    yield none("failed that were not in flight", [one for one in lost if one not in in_flight])
    yield all_of("failed with UNAVAILABLE", lost, [UNAVAILABLE])
    yield none("wrong answers", faulty(every))
    yield at_most("replaced after", replaced_s, REPLACED_WITHIN_S * lab.patience, "s", 2)


def _first_answered(
    outcomes: list[Outcome], connection: int, *, since: float, until: float
) -> float:
    """Return when a connection sent its first request after ``since`` that was answered.

    From then on the caller is connected to a live worker. The result is at most ``until``.
    """
    answered = (
        one.sent
        for one in outcomes
        if one.connection == connection and one.sent > since and one.code == OK
    )
    return min([*answered, until])


def _busiest(service: Server) -> tuple[psutil.Process, set[int]]:
    """The worker with the most connections, and the callers' ports of these."""
    port = int(service.address.rpartition(":")[2])
    workers = {
        worker: {
            one.raddr.port
            for one in worker.net_connections("tcp")
            if one.raddr and one.laddr.port == port
        }
        for worker in service.process.children()
    }
    worker = max(workers, key=lambda one: len(workers[one]), default=None)
    if worker is None or not workers[worker]:
        raise Broken("no worker of the query service has a connection")
    return worker, workers[worker]


def _listening(service: Server) -> int:
    """How many workers listen."""
    count = 0
    for worker in service.process.children():
        try:
            states = [one.status for one in worker.net_connections("tcp")]
        except psutil.Error:
            continue
        count += psutil.CONN_LISTEN in states
    return count


def drain(lab: Lab) -> Iterator[Check]:
    """SIGTERM of the only instance, while answers are slow: what it has accepted, it answers."""
    name = "drain"
    with (
        lab.model_server(f"{name}-models") as models,
        lab.service(name, models, arguments=("--grace-s", f"{_GRACE_S}")) as service,
        lab.load(service, asked=users(lab.catalogue)) as load,
    ):
        time.sleep(lab.times.calm)
        # So that there is something under way, whatever the rate.
        models.pause()
        time.sleep(_SLOW_S)
        told_at = now()
        answering = threading.Timer(_SLOW_S, models.resume)
        answering.start()
        status, took_s = service.terminate()
        answering.join()
        time.sleep(0.5)
        every = load.finish()
    lost = failed(every)
    refused = where(lost, lambda one: one.code == UNAVAILABLE and _REFUSED in one.details)
    # Sent over a connection that had been told to close, and had not heard yet: gRPC's core ends
    # those by itself, the service never has them.
    heard_at = told_at + _HEARD_S * lab.patience
    cut = where(lost, lambda one: one.code == CANCELLED and told_at < one.sent < heard_at)
    under_way = where(every, lambda one: one.sent <= told_at <= one.ended)
    yield lab.on_time(every)
    yield none("failed before", where(lost, lambda one: one.sent < told_at))
    yield at_least("under way at SIGTERM", len(under_way), 1, "requests")
    yield none("failed that were accepted", [one for one in lost if one not in {*refused, *cut}])
    yield told("refused connections", f"{len(refused):,}")
    yield told("sent while the connections closed", f"{len(cut):,}")
    yield none("wrong answers", faulty(every))
    yield holds("exit status", status == 0, f"{status}", "0")
    yield at_most("ended after", took_s, _GRACE_S, "s", 2)


def drain_one_of_two(lab: Lab) -> Iterator[Check]:
    """SIGTERM of one of two instances, a lame duck first; callers take turns and watch health."""
    name = "drain-one-of-two"
    grace = ("--lame-duck-s", f"{_LAME_DUCK_S}", "--grace-s", f"{_GRACE_S}")
    metrics = free_port()
    with (
        lab.model_server(f"{name}-models") as models,
        lab.service(name, models, arguments=(*grace, "--metrics-port", f"{metrics}")) as ended,
        lab.service(f"{name}-other", models, arguments=grace) as other,
        lab.load(ended, other, asked=users(lab.catalogue)) as load,
    ):
        time.sleep(lab.times.calm)
        answered = _answered(metrics)
        status, took_s = ended.terminate()
        time.sleep(lab.times.calm)
        every = load.finish()
    yield lab.on_time(every)
    yield at_least("answered by the one that ended, before", answered, 1, "requests")
    yield none("failed", failed(every))
    yield none("wrong answers", faulty(every))
    yield holds("exit status", status == 0, f"{status}", "0")
    yield at_most("ended after", took_s, _LAME_DUCK_S + _GRACE_S, "s", 2)


def _answered(metrics_port: int) -> float:
    """How many requests an instance has answered, by its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as page:
        text = page.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "shortlist_requests_total" and sample.labels["status"] == "OK"
    )
