"""What the query service costs and gains: ours beside others on one catalogue.

    python -m benchmarks.service [--peers shortlist naive ...] [--concurrency 1 8 32 128]
        [--rounds 5] [--seconds 3] [--serve-args "--workers 2"] [--models-dir DIR]
        [--work-dir DIR] [--json FILE] [--plot FILE]

Bare gRPC echoes in Python, a naive service on the same model server, FastAPI with the index in its
own process, Chroma, and ours, all asked for 100 candidates of one user by h2load, with and without
100 exclusions. All servers run all the time; they are measured in turns, each round in an order of
its own. Wants h2load (Debian: nghttp2-client) and the extra `benchmarks`; a peer that is not
installed is left out.
"""

import argparse
import itertools
import json
import math
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import psutil
from rich.console import Console
from rich.markup import escape

from benchmarks.service import peers as service_peers
from benchmarks.service import report as service_report
from benchmarks.service.catalogue import (
    EXCLUDED,
    NEAREST_SEEN,
    NONE_SEEN,
    PLAIN,
    SCATTERED_SEEN,
    Catalogue,
)
from benchmarks.service.load import CONNECTIONS, Failed, Load, Sample, h2load, one_caller
from benchmarks.service.peer import Peer
from benchmarks.service.processes import ROOT, Machinery, environment
from benchmarks.service.results import (
    BATCH,
    OURS,
    PREDICT,
    PYTHON,
    Results,
    Turn,
    summary,
)
from benchmarks.service.usage import settle

CONSOLE = Console(width=None if sys.stdout.isatty() else 160)
#: Seconds between two turns: what is left of the last one ends.
_PAUSE_S = 0.2
#: Loads by which the way to ask a peer is chosen.
_CHOOSING = (1, 32)
_CHOOSING_S, _CHOOSING_ROUNDS = 1.0, 3
_BATCHES = (1, 4)
_HEAVY = (1, 8)
_STARTS = 5


def measure(peer: Peer, turn: Turn, catalogue: Catalogue, seconds: float) -> Sample:
    """Ask once and look at the answer, then measure.

    Raises:
        Failed: a wrong answer, or errors under load.
    """
    question = catalogue.question(turn.question)
    answer_bytes = peer.check(question)
    request = peer.request(question)
    if turn.caller == PYTHON:
        with grpc.insecure_channel(peer.address) as channel:
            call = channel.unary_unary(request.path)
            return one_caller(
                lambda: peer.read(call(request.body, timeout=30), question), seconds, peer.parts
            )
    return h2load(peer.address, request, turn.load, seconds, answer_bytes, peer.parts)


def start(machinery: Machinery, names: list[str]) -> dict[str, Peer]:
    """Those of the peers that run, each asked in its fastest way."""
    bare = service_peers.BarePredict()
    bare.start(machinery)
    bare.recall = bare.measure_recall(machinery.catalogue)
    running: dict[str, Peer] = {}
    for name, peer in service_peers.every(bare.recall).items():
        if name not in names:
            continue
        if missing := peer.missing():
            CONSOLE.print(f"[yellow]{name} is left out: {', '.join(missing)} is not installed[/]")
            continue
        try:
            peer.start(machinery)
            choose(name, peer, machinery.catalogue)
            if peer.searches:
                peer.recall = peer.measure_recall(machinery.catalogue)
        except (Failed, psutil.Error) as failed:
            CONSOLE.print(f"[red]{name} is left out: it failed[/]\n{escape(str(failed))}")
            continue
        running[name] = peer
        found = f", recall@100 {peer.recall:.4f}" if peer.recall else ""
        CONSOLE.print(f"{name} runs{found}{f': {peer.note}' if peer.note else ''}")
    if ours := running.get(OURS):
        running |= {PREDICT: bare, BATCH: service_peers.Batch(ours)}
    return running


def choose(name: str, peer: Peer, catalogue: Catalogue) -> None:
    """Keep the way to ask that has the highest rate, as the geometric mean of two loads."""
    if len(peer.ways) < 2:
        return
    logs: dict[str, list[float]] = {way: [] for way in peer.ways}
    for _ in range(_CHOOSING_ROUNDS):
        for way, concurrency in itertools.product(peer.ways, _CHOOSING):
            peer.way = way
            turn = Turn(name, peer.decides, Load(concurrency))
            try:
                rate = measure(peer, turn, catalogue, _CHOOSING_S).rate
            except Failed as failed:
                CONSOLE.print(f"{name}, {way}, {concurrency} at a time: {escape(str(failed))}")
                rate = 1 / _CHOOSING_S
            settle(peer.parts)
            logs[way].append(math.log(rate))
    rates = {way: math.exp(statistics.mean(every)) for way, every in logs.items()}
    peer.way = max(rates, key=rates.__getitem__)
    tried = ", ".join(f"{way} {rate:,.0f}/s" for way, rate in rates.items())
    peer.note = "; ".join(filter(None, [peer.note, f"asked by {peer.way} ({tried})"]))


def plan(running: dict[str, Peer], concurrencies: list[int]) -> Iterator[Turn]:
    """All turns of a round."""
    for name in running:
        if name in (PREDICT, BATCH):
            continue
        for concurrency in concurrencies:
            for question in (PLAIN, EXCLUDED):
                yield Turn(name, question, Load(concurrency))
    if OURS not in running:
        return
    yield Turn(PREDICT, PLAIN, Load(1))
    for name in (PREDICT, OURS):
        yield Turn(name, PLAIN, Load(1), PYTHON)
    for concurrency in _BATCHES:
        yield Turn(BATCH, PLAIN, Load(concurrency))
    for concurrency in _HEAVY:
        for question in (NONE_SEEN, NEAREST_SEEN, SCATTERED_SEEN):
            yield Turn(OURS, question, Load(concurrency))


def rounds(
    turns: list[Turn], running: dict[str, Peer], catalogue: Catalogue, count: int, seconds: float
) -> list[str]:
    """Measure all turns in every round; what failed."""
    faults = []
    for number in range(count):
        order = list(turns)
        random.Random(number).shuffle(order)
        for turn in order:
            time.sleep(_PAUSE_S)
            try:
                turn.samples[number] = measure(running[turn.peer], turn, catalogue, seconds)
            except (Failed, psutil.Error) as failed:
                faults.append(f"round {number + 1}, {turn}: {failed}")
                CONSOLE.print(f"[red]{escape(faults[-1])}[/]")
        CONSOLE.print(f"round {number + 1} of {count}: {len(turns)} turns")
    return faults


def starts(machinery: Machinery) -> list[float]:
    """Seconds from the start of a query service until it says that it is ready."""
    seconds = []
    for _ in range(_STARTS):
        server = machinery.serve("start")
        seconds.append(server.start_seconds)
        server.stop()
    return seconds


def run(arguments: argparse.Namespace) -> Results:
    """Start all, measure all, stop all."""
    catalogue = Catalogue(models(arguments))
    work: Path = arguments.work_dir
    with ExitStack() as stack:
        machinery = Machinery(catalogue, work, stack, shlex.split(arguments.serve_args))
        running = start(machinery, arguments.peers)
        results = Results(
            turns=list(plan(running, arguments.concurrency)),
            notes={name: peer.note for name, peer in running.items()},
            recall={name: peer.recall for name, peer in running.items() if peer.recall},
        )
        measured = (running, catalogue, arguments.rounds, arguments.seconds)
        results.faults = rounds(results.turns, *measured)
        if OURS in running and (top := results.top(OURS)):
            half = [Turn(OURS, PLAIN, Load(CONNECTIONS, rate=top / 2))]
            results.faults += rounds(half, *measured)
            results.turns += half
            results.start_seconds = starts(machinery)
    return results


def models(arguments: argparse.Namespace) -> Path:
    """Where the models lie; made when there are none."""
    if arguments.models_dir:
        return Path(arguments.models_dir).resolve()
    made: Path = arguments.work_dir / "models"
    if not (made / "retrieval").exists():
        command = [sys.executable, "-m", "benchmarks.service.model", str(made)]
        subprocess.run(command, env=environment(), check=True)
    return made


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    every = list(service_peers.every(0.0))
    parser.add_argument("--peers", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one turn, after 1 s warm-up")
    parser.add_argument("--serve-args", default="", help="more of `query_service serve`, one text")
    parser.add_argument("--models-dir", type=Path, help="made by benchmarks.service.model")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "build" / "service-benchmark")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help=".png or .svg")
    arguments = parser.parse_args()
    if any(one > CONNECTIONS and one % CONNECTIONS for one in arguments.concurrency):
        parser.error(f"--concurrency above {CONNECTIONS} must be a multiple of it")
    if not shutil.which("h2load"):
        parser.error("h2load is not installed (Debian: nghttp2-client)")
    arguments.work_dir = arguments.work_dir.resolve()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    return arguments


def main() -> None:
    """Measure; print the tables, write JSON and plot."""
    arguments = options()
    # Like Ctrl-C: the servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = run(arguments)
    machine = service_report.machine()
    for table in service_report.tables(results):
        CONSOLE.print(table)
    CONSOLE.print(f"{machine['cores']} cores, {machine['cpu']}; {machine['versions']}")
    CONSOLE.print(
        f"{arguments.rounds} rounds of {arguments.seconds} s; {len(results.faults)} failed"
    )
    CONSOLE.print(service_report.disturbed(results))
    if arguments.json:
        said: dict[str, Any] = {
            "machine": machine,
            "options": {name: str(value) for name, value in vars(arguments).items()},
            "summary": [asdict(one) for one in summary(results)],
            **asdict(results),
        }
        arguments.json.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    if arguments.plot:
        service_report.plot(results, arguments.plot)
