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

#: Seconds between two measurements, so that the work of the last one ends.
_PAUSE_S = 0.2
_BATCH_CONCURRENCIES = (1, 4)
_STARTS = 5
_ERRORS = (MeasurementError, H2loadError, ProcessError, psutil.Error)


@dataclass(frozen=True)
class Case:
    """One case that is measured in every round."""

    peer: str
    question: str
    load: Load

    def __str__(self) -> str:
        return f"{self.peer}, {self.question}, load {self.load}"


def all_peers() -> dict[str, Peer]:
    """Return all peers by name, ours last."""
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
    """Start all peers, measure them, and stop them."""
    models_dir = arguments.models_dir or ensure_model(arguments.work_dir / "models")
    catalogue = Catalogue(models_dir.resolve())
    with ExitStack() as stack:
        serve_options = shlex.split(arguments.serve_args)
        deployment = Deployment(catalogue, arguments.work_dir, stack, serve_options)
        running, recall = start_peers(deployment, arguments.peers, console)
        rounds = Rounds(running, catalogue, arguments, console)
        rounds.measure(list(plan(running, arguments.concurrency)))
        start_s: list[float] = []
        worker_mib: list[float] = []
        ours = running.get(OURS)
        if isinstance(ours, peers.Shortlist):
            if highest := rounds.highest_rate(OURS, PLAIN):
                rounds.measure([Case(OURS, PLAIN, Load(CONNECTIONS, rate=highest / 2))])
            worker_mib = [ours.largest_worker_mib()]
            start_s = measure_starts(deployment)
    return Results(rounds.samples(), recall, rounds.errors, start_s, worker_mib)


def start_peers(
    deployment: Deployment, names: Sequence[str], console: Console
) -> tuple[dict[str, Peer], dict[str, float]]:
    """Return the peers that run by name, and the recall of those that search."""
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
        console.print(f"{name} runs")
    if ours := running.get(OURS):
        running |= {PREDICT: peers.BarePredict(), BATCH: peers.Batch(ours)}
        running[PREDICT].start(deployment)
    return running, recall


def plan(running: Mapping[str, Peer], concurrencies: Sequence[int]) -> Iterator[Case]:
    """Yield all cases of a round."""
    for name in running:
        if name in (PREDICT, BATCH):
            continue
        for concurrency in concurrencies:
            for question in (PLAIN, EXCLUDED):
                yield Case(name, question, Load(concurrency))
    if OURS not in running:
        return
    for name in (PREDICT, OURS):
        yield Case(name, PLAIN, Load(1, in_python=True))
    for concurrency in _BATCH_CONCURRENCIES:
        yield Case(BATCH, PLAIN, Load(concurrency))
    for concurrency in SEEN_CONCURRENCIES:
        for question in (NONE_SEEN, NEAREST_SEEN, SCATTERED_SEEN):
            yield Case(OURS, question, Load(concurrency))


class Rounds:
    """Measures cases in rounds, each round in a different order.

    Attributes:
        errors: errors of single measurements, which have no sample.
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
        """Return all samples in the order of their cases; see :class:`Results`."""
        rows = [
            (case.peer, case.question, str(case.load), number, *astuple(sample))
            for case, by_round in self._samples.items()
            for number, sample in by_round.items()
        ]
        figures = [figure.name for figure in fields(Sample)]
        return pd.DataFrame(rows, columns=["peer", "question", "load", "round", *figures])

    def highest_rate(self, peer: str, question: str) -> float:
        """Return the highest median rate over all loads; 0 if nothing was measured."""
        medians = [
            statistics.median(sample.rate for sample in by_round.values())
            for case, by_round in self._samples.items()
            if (case.peer, case.question) == (peer, question) and by_round
        ]
        return max(medians, default=0.0)

    def _measure(self, case: Case) -> Sample:
        """Check one answer, then measure.

        Raises:
            MeasurementError: the answer is wrong, or there were errors under load.
        """
        peer, seconds = self._running[case.peer], self._arguments.seconds
        question = self._catalogue.question(case.question)
        answer_bytes = peer.check(question)
        request = peer.request(question)
        if not case.load.in_python:
            return measure_with_h2load(peer.address, request, case.load, seconds, answer_bytes)
        with grpc.insecure_channel(peer.address) as channel:
            call = serving.method(channel, request.path)
            return measure_with_python(
                lambda: peer.read(call(request.body, timeout=30), question), seconds
            )


def measure_starts(deployment: Deployment) -> list[float]:
    """Return the seconds from the start of a query service until it is ready, several times."""
    seconds = []
    for _ in range(_STARTS):
        server = deployment.start_query_service("start")
        seconds.append(server.startup_s)
        server.stop()
    return seconds
