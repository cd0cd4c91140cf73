"""Scenarios: a worker of the query service is killed, and instances are shut down."""

import threading
import time
import urllib.request
from collections.abc import Iterator

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.chaos.checks import (
    Check,
    ScenarioError,
    all_ended_with,
    at_least,
    at_most,
    equal,
    no_requests,
)
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.outcomes import CANCELLED, OK, UNAVAILABLE, failed, faulty
from tools.processes import Server, free_port
from tools.waiting import until

_REPLACED_WITHIN_S = 2
#: Part of gRPC's message if a client could not connect, so that its request was never accepted.
_REFUSED = "Connection refused"
_GRACE_S = 5
_LAME_DUCK_S = 2
#: How long the model server stays paused before SIGTERM, and again after SIGTERM.
_PAUSE_S = 0.1
#: How long a caller may take to notice that its connection has ended.
_NOTICED_WITHIN_S = 0.05


def kill_worker(env: Environment) -> Iterator[Check]:
    """One of two workers is killed with SIGKILL."""
    with env.running("kill-worker", "--workers", "2") as (_, service, load):
        time.sleep(env.steady_s)
        worker, ports = _busiest_worker(service)
        connections = [number for number, port in enumerate(load.ports) if port in ports]
        killed_at = time.perf_counter()
        worker.kill()
        worker.wait()
        ended_at = time.perf_counter()
        until(lambda: _listening_workers(service) >= 2, 10, "the killed worker is replaced")
        replaced_s = time.perf_counter() - killed_at
        time.sleep(env.steady_s)
        outcomes = load.finish()
    lost = failed(outcomes)
    # A caller sends into a dead connection until the caller notices; the worker never sees these
    # requests. After the first answer, the caller is connected to a live worker.
    answered = outcomes[(outcomes.sent > ended_at) & (outcomes.code == OK)]
    reconnected_at = answered.groupby("connection").sent.min().reindex(connections)
    limit = ended_at + _NOTICED_WITHIN_S * env.patience
    reconnected_at = reconnected_at.fillna(limit).clip(upper=limit)
    # Requests over other connections have no reconnection time, so they compare as False.
    is_in_flight = (lost.ended >= killed_at) & (lost.sent < lost.connection.map(reconnected_at))
    yield Check("connections of the killed worker", f"{len(connections)} of {len(load.ports)}")
    yield env.check_send_delay(outcomes)
    yield Check("failed", f"{len(lost)}; {is_in_flight.sum()} were in flight at the worker")
    yield no_requests("failed that were not in flight", lost[~is_in_flight])
    yield all_ended_with("failed with UNAVAILABLE", lost, UNAVAILABLE)
    yield no_requests("wrong answers", faulty(outcomes))
    yield at_most("worker replaced after", replaced_s, _REPLACED_WITHIN_S * env.patience, "s", 2)


def _busiest_worker(service: Server) -> tuple[psutil.Process, set[int]]:
    """Return the worker with the most connections, and the callers' ports of its connections."""
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
        raise ScenarioError("no worker of the query service has a connection")
    return worker, workers[worker]


def _listening_workers(service: Server) -> int:
    """Return the number of workers that listen for connections."""
    count = 0
    for worker in service.process.children():
        try:
            states = [one.status for one in worker.net_connections("tcp")]
        except psutil.Error:
            continue
        count += psutil.CONN_LISTEN in states
    return count


def drain(env: Environment) -> Iterator[Check]:
    """The only instance gets SIGTERM while answers are slow: it answers all accepted requests."""
    with env.running("drain", "--grace-s", f"{_GRACE_S}") as (models, service, load):
        time.sleep(env.steady_s)
        # A paused model server keeps requests in flight, whatever the rate.
        models.pause()
        time.sleep(_PAUSE_S)
        terminated_at = time.perf_counter()
        resuming = threading.Timer(_PAUSE_S, models.resume)
        resuming.start()
        status, took_s = service.terminate()
        resuming.join()
        time.sleep(0.5)
        outcomes = load.finish()
    lost = failed(outcomes)
    is_refused = (lost.code == UNAVAILABLE) & lost.details.str.contains(_REFUSED)
    # Some requests were sent over a connection that was closing, before the caller noticed. gRPC's
    # core ends these requests; the service never sees them.
    noticed_at = terminated_at + _NOTICED_WITHIN_S * env.patience
    sent_meanwhile = lost.sent.between(terminated_at, noticed_at, inclusive="neither")
    is_closing = (lost.code == CANCELLED) & sent_meanwhile
    in_flight = (outcomes.sent <= terminated_at) & (outcomes.ended >= terminated_at)
    yield env.check_send_delay(outcomes)
    yield no_requests("failed before SIGTERM", lost[lost.sent < terminated_at])
    yield at_least("in flight at SIGTERM", in_flight.sum(), 1, "requests")
    yield no_requests("failed after they were accepted", lost[~is_refused & ~is_closing])
    yield Check("refused connections", f"{is_refused.sum():,}")
    yield Check("sent while the connections closed", f"{is_closing.sum():,}")
    yield no_requests("wrong answers", faulty(outcomes))
    yield equal("exit status", status, 0)
    yield at_most("shutdown took", took_s, _GRACE_S, "s", 2)


def drain_one_of_two(env: Environment) -> Iterator[Check]:
    """One of two instances gets SIGTERM, with a lame duck period. Callers watch health checks."""
    name = "drain-one-of-two"
    shutdown = ("--lame-duck-s", f"{_LAME_DUCK_S}", "--grace-s", f"{_GRACE_S}")
    metrics_port = free_port()
    metrics = ("--metrics-port", f"{metrics_port}")
    with (
        env.servers(name, *shutdown, *metrics) as (models, stopped),
        env.service(f"{name}-other", models, options=shutdown) as other,
        env.load(stopped, other) as load,
    ):
        time.sleep(env.steady_s)
        answered = _answered_requests(metrics_port)
        status, took_s = stopped.terminate()
        time.sleep(env.steady_s)
        outcomes = load.finish()
    yield env.check_send_delay(outcomes)
    yield at_least("answered by the stopped instance before SIGTERM", answered, 1, "requests")
    yield no_requests("failed", failed(outcomes))
    yield no_requests("wrong answers", faulty(outcomes))
    yield equal("exit status", status, 0)
    yield at_most("shutdown took", took_s, _LAME_DUCK_S + _GRACE_S, "s", 2)


def _answered_requests(metrics_port: int) -> float:
    """Return the number of requests that an instance has answered, as its metrics report it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as page:
        text = page.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "shortlist_requests_total" and sample.labels["status"] == "OK"
    )
