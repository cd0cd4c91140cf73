"""Starts all peers, measures them in rounds, and stops them."""

import argparse
import random
import shlex
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields

import grpc
import pandas as pd
import psutil
from rich.console import Console
from rich.markup import escape

from benchmarks import serving
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
from benchmarks.service.results import BATCH, OURS, PREDICT, SEEN_CONCURRENCIES, Results
from tools.h2load import H2loadError
from tools.processes import ProcessError

#: Seconds between two measurements, so that the servers finish the work of the first.
_PAUSE_S = 0.2
_BATCH_CONCURRENCIES = (1, 4)
_STARTS = 5
_ERRORS = (MeasurementError, H2loadError, ProcessError, psutil.Error)


@dataclass(frozen=True)
class Case:
    """A peer, a kind of request and a load, which are measured once in every round."""

    peer: str
    request_kind: str
    load: Load

    def __str__(self) -> str:
        return f"{self.peer}, {self.request_kind}, load {self.load}"


def all_peers() -> dict[str, Peer]:
    """Return all peers by name; Shortlist is the last."""
    return {
        "echo-aio": peers.Echo("echo-aio"),
        "echo-threads": peers.Echo("echo-threads"),
        "echo-core": peers.Echo("echo-core"),
        "naive": peers.Naive(),
        "fastapi": peers.FastApi(),
        "chroma": Chroma(),
        OURS: peers.Shortlist(),
    }


def run(arguments: argparse.Namespace, console: Console) -> Results:
    """Start the peers that ``arguments`` select, measure them, and stop them."""
    models_dir = arguments.models_dir or ensure_model(arguments.work_dir / "models")
    catalogue = Catalogue(models_dir.resolve())
    with ExitStack() as stack:
        serve_options = shlex.split(arguments.serve_args)
        deployment = Deployment(catalogue, arguments.work_dir, stack, serve_options)
        running, recall = start_peers(deployment, arguments.peers, console)
        rounds = Rounds(running, catalogue, arguments, console)
        rounds.measure(list(plan(running, arguments.concurrency)))
        startup_s: list[float] = []
        worker_mib: list[float] = []
        ours = running.get(OURS)
        if isinstance(ours, peers.Shortlist):
            if highest := rounds.highest_rate(OURS, PLAIN):
                rounds.measure([Case(OURS, PLAIN, Load(CONNECTIONS, rate=highest / 2))])
            worker_mib = [ours.largest_worker_mib()]
            startup_s = measure_starts(deployment)
    return Results(rounds.samples(), recall, rounds.errors, startup_s, worker_mib)


def start_peers(
    deployment: Deployment, names: Sequence[str], console: Console
) -> tuple[dict[str, Peer], dict[str, float]]:
    """Start peers; return the running peers by name, and the recall of peers that search."""
    running: dict[str, Peer] = {}
    recall: dict[str, float] = {}
    for name, peer in all_peers().items():
        if name not in names:
            continue
        try:
            peer.start(deployment)
            if peer.searches:
                recall[name] = peer.measure_recall(deployment.catalogue)
        except _ERRORS as error:
            console.print(f"[red]{name} is left out, because it failed[/]\n{escape(str(error))}")
            continue
        running[name] = peer
        console.print(f"{name} is running")
    if ours := running.get(OURS):
        running |= {PREDICT: peers.BarePredict(), BATCH: peers.Batch(ours)}
        running[PREDICT].start(deployment)
    return running, recall


def plan(running: Mapping[str, Peer], concurrencies: Sequence[int]) -> Iterator[Case]:
    """Yield all cases that every round measures."""
    for name in running:
        if name in (PREDICT, BATCH):
            continue
        for concurrency in concurrencies:
            for request_kind in (PLAIN, EXCLUDED):
                yield Case(name, request_kind, Load(concurrency))
    if OURS not in running:
        return
    for name in (PREDICT, OURS):
        yield Case(name, PLAIN, Load(1, in_python=True))
    for concurrency in _BATCH_CONCURRENCIES:
        yield Case(BATCH, PLAIN, Load(concurrency))
    for concurrency in SEEN_CONCURRENCIES:
        for request_kind in (NONE_SEEN, NEAREST_SEEN, SCATTERED_SEEN):
            yield Case(OURS, request_kind, Load(concurrency))


class Rounds:
    """Measures cases in rounds, each round in a different order.

    Attributes:
        errors: one message for each measurement that failed and therefore has no sample.
    """

    def __init__(
        self,
        running: Mapping[str, Peer],
        catalogue: Catalogue,
        arguments: argparse.Namespace,
        console: Console,
    ) -> None:
        self._running, self._catalogue = running, catalogue
        self._arguments, self._console = arguments, console
        self._samples: dict[Case, dict[int, Sample]] = {}
        self.errors: list[str] = []

    def measure(self, cases: Sequence[Case]) -> None:
        """Measure every case once in every round."""
        self._samples |= {case: {} for case in cases}
        for number in range(self._arguments.rounds):
            for case in random.Random(number).sample(cases, len(cases)):
                time.sleep(_PAUSE_S)
                try:
                    self._samples[case][number] = self._measure(case)
                except _ERRORS as error:
                    self.errors.append(f"round {number + 1}, {case}: {error}")
                    self._console.print(f"[red]{escape(self.errors[-1])}[/]")
            rounds = self._arguments.rounds
            self._console.print(f"round {number + 1} of {rounds}: {len(cases)} cases")

    def samples(self) -> pd.DataFrame:
        """Return the table ``Results.samples``, with the cases in the order of :meth:`measure`."""
        rows = [
            (case.peer, case.request_kind, str(case.load), number, *astuple(sample))
            for case, by_round in self._samples.items()
            for number, sample in by_round.items()
        ]
        columns = ["peer", "request_kind", "load", "round", *(one.name for one in fields(Sample))]
        return pd.DataFrame(rows, columns=columns)

    def highest_rate(self, peer: str, request_kind: str) -> float:
        """Return the highest of the median rates of all loads, or 0 without any samples."""
        medians = [
            statistics.median(sample.rate for sample in by_round.values())
            for case, by_round in self._samples.items()
            if (case.peer, case.request_kind) == (peer, request_kind) and by_round
        ]
        return max(medians, default=0.0)

    def _measure(self, case: Case) -> Sample:
        """Send one request and check the answer; then measure the case.

        Raises:
            MeasurementError: the answer is wrong, or there were errors under load.
        """
        peer, seconds = self._running[case.peer], self._arguments.seconds
        user_request = self._catalogue.user_request(case.request_kind)
        answer_bytes = peer.check(user_request)
        request = peer.request(user_request)
        if not case.load.in_python:
            return measure_with_h2load(peer.address, request, case.load, seconds, answer_bytes)
        with grpc.insecure_channel(peer.address) as channel:
            call = serving.method(channel, request.path)
            return measure_with_python(
                lambda: peer.read(call(request.body, timeout=30), user_request), seconds
            )


def measure_starts(deployment: Deployment) -> list[float]:
    """Start a query service several times; return the seconds until it was ready, per start."""
    startup_s = []
    for _ in range(_STARTS):
        server = deployment.start_query_service("start")
        startup_s.append(server.startup_s)
        server.stop()
    return startup_s
