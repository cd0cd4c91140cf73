"""Starts all peers, measures them in rounds, and stops them."""

import argparse
import itertools
import random
import shlex
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import psutil
from rich.console import Console
from rich.markup import escape

from benchmarks.service import peers
from benchmarks.service.catalogue import (
    EXCLUDED,
    NEAREST_SEEN,
    NONE_SEEN,
    PLAIN,
    SCATTERED_SEEN,
    Catalogue,
    ensure_model,
)
from benchmarks.service.chroma import Chroma
from benchmarks.service.deployment import Deployment
from benchmarks.service.load import (
    CONNECTIONS,
    Load,
    MeasurementError,
    Sample,
    measure_with_h2load,
    measure_with_python,
)
from benchmarks.service.peers import Peer
from benchmarks.service.results import BATCH, OURS, PREDICT, PYTHON, Case, Results
from tools.h2load import H2loadError
from tools.processes import ProcessError
from tools.usage import wait_until_idle

#: Seconds between two measurements, so that the work of the last one ends.
_PAUSE_S = 0.2
#: How the fastest variant of a peer is chosen.
_VARIANT_CONCURRENCIES, _VARIANT_S, _VARIANT_ROUNDS = (1, 32), 1.0, 3
_BATCH_CONCURRENCIES = (1, 4)
_SEEN_CONCURRENCIES = (1, 8)
_STARTS = 5
_ERRORS = (MeasurementError, H2loadError, ProcessError, psutil.Error)


def run(arguments: argparse.Namespace, console: Console) -> Results:
    """Start all peers, measure them, and stop them."""
    models_dir = arguments.models_dir or ensure_model(arguments.work_dir / "models")
    catalogue = Catalogue(models_dir.resolve())
    with ExitStack() as stack:
        serve_options = shlex.split(arguments.serve_args)
        deployment = Deployment(catalogue, arguments.work_dir, stack, serve_options)
        running = start_peers(deployment, arguments.peers, console)
        results = Results(
            cases=list(plan(running, arguments.concurrency)),
            notes={name: peer.note for name, peer in running.items()},
            recall={name: peer.recall for name, peer in running.items() if peer.recall},
        )

        def measure_rounds(cases: list[Case]) -> None:
            for number in range(arguments.rounds):
                for error in measure_round(number, cases, running, catalogue, arguments.seconds):
                    results.errors.append(error)
                    console.print(f"[red]{escape(error)}[/]")
                console.print(f"round {number + 1} of {arguments.rounds}: {len(cases)} cases")

        measure_rounds(results.cases)
        if OURS in running and (rates := results.medians(OURS, PLAIN, "rate")):
            half = Case(OURS, PLAIN, Load(CONNECTIONS, rate=max(rates.values()) / 2))
            measure_rounds([half])
            results.cases.append(half)
            results.start_seconds = measure_starts(deployment)
    return results


def all_peers(recall: float) -> dict[str, Peer]:
    """Return all peers by name, ours last; others have to reach the ``recall`` of our index."""
    return {
        "echo-aio": peers.Echo("echo-aio"),
        "echo-threads": peers.Echo("echo-threads"),
        "echo-core": peers.Echo("echo-core"),
        "naive": peers.Naive(),
        "fastapi": peers.FastApi(),
        "chroma": Chroma(recall),
        "shortlist": peers.Shortlist(),
    }


def start_peers(deployment: Deployment, names: list[str], console: Console) -> dict[str, Peer]:
    """Return those of the peers that run, each with its fastest variant."""
    bare = peers.BarePredict()
    bare.start(deployment)
    bare.recall = bare.measure_recall(deployment.catalogue)
    running: dict[str, Peer] = {}
    for name, peer in all_peers(bare.recall).items():
        if name not in names:
            continue
        if missing := peer.missing():
            console.print(f"[yellow]{name} is left out: {', '.join(missing)} is not installed[/]")
            continue
        try:
            peer.start(deployment)
            choose_variant(name, peer, deployment.catalogue)
            if peer.searches:
                peer.recall = peer.measure_recall(deployment.catalogue)
        except _ERRORS as error:
            console.print(f"[red]{name} is left out, because it failed[/]\n{escape(str(error))}")
            continue
        running[name] = peer
        recall = f", recall@100 {peer.recall:.4f}" if peer.recall else ""
        console.print(f"{name} runs{recall}{f': {peer.note}' if peer.note else ''}")
    if ours := running.get(OURS):
        running |= {PREDICT: bare, BATCH: peers.Batch(ours)}
    return running


def choose_variant(name: str, peer: Peer, catalogue: Catalogue) -> None:
    """Keep the variant with the highest rate, as the geometric mean of two loads."""
    if len(peer.variants) < 2:
        return
    rates: dict[str, list[float]] = {variant: [] for variant in peer.variants}
    for _ in range(_VARIANT_ROUNDS):
        for variant, concurrency in itertools.product(peer.variants, _VARIANT_CONCURRENCIES):
            peer.variant = variant
            case = Case(name, peer.variant_question, Load(concurrency))
            try:
                rates[variant].append(measure(peer, case, catalogue, _VARIANT_S).rate)
            except _ERRORS:
                # No answer counts as one in the whole time.
                rates[variant].append(1 / _VARIANT_S)
            wait_until_idle(list(peer.processes.values()))
    means = {variant: statistics.geometric_mean(values) for variant, values in rates.items()}
    peer.variant = max(means, key=means.__getitem__)
    tried = ", ".join(f"{variant} {rate:,.0f}/s" for variant, rate in means.items())
    peer.note = "; ".join(filter(None, [peer.note, f"asked by {peer.variant} ({tried})"]))


def plan(running: dict[str, Peer], concurrencies: list[int]) -> Iterator[Case]:
    """Yield all cases of a round."""
    for name in running:
        if name in (PREDICT, BATCH):
            continue
        for concurrency in concurrencies:
            for question in (PLAIN, EXCLUDED):
                yield Case(name, question, Load(concurrency))
    if OURS not in running:
        return
    yield Case(PREDICT, PLAIN, Load(1))
    for name in (PREDICT, OURS):
        yield Case(name, PLAIN, Load(1), PYTHON)
    for concurrency in _BATCH_CONCURRENCIES:
        yield Case(BATCH, PLAIN, Load(concurrency))
    for concurrency in _SEEN_CONCURRENCIES:
        for question in (NONE_SEEN, NEAREST_SEEN, SCATTERED_SEEN):
            yield Case(OURS, question, Load(concurrency))


def measure_round(
    number: int, cases: list[Case], running: dict[str, Peer], catalogue: Catalogue, seconds: float
) -> Iterator[str]:
    """Measure every case once, in an order of this round's own; yield the errors."""
    order = list(cases)
    random.Random(number).shuffle(order)
    for case in order:
        time.sleep(_PAUSE_S)
        try:
            case.samples[number] = measure(running[case.peer], case, catalogue, seconds)
        except _ERRORS as error:
            yield f"round {number + 1}, {case}: {error}"


def measure(peer: Peer, case: Case, catalogue: Catalogue, seconds: float) -> Sample:
    """Check one answer, then measure.

    Raises:
        MeasurementError: the answer is wrong, or there were errors under load.
    """
    question = catalogue.question(case.question)
    answer_bytes = peer.check(question)
    request = peer.request(question)
    if case.caller != PYTHON:
        return measure_with_h2load(
            peer.address, request, case.load, seconds, answer_bytes, peer.processes
        )
    with grpc.insecure_channel(peer.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(request.path)
        return measure_with_python(
            lambda: peer.read(call(request.body, timeout=30), question), seconds, peer.processes
        )


def measure_starts(deployment: Deployment) -> list[float]:
    """Return the seconds from the start of a query service until it is ready, several times."""
    seconds = []
    for _ in range(_STARTS):
        server = deployment.start_query_service("start")
        seconds.append(server.start_s)
        server.stop()
    return seconds
