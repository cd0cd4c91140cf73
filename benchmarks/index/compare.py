"""Builds every index, tries its search settings, and measures the best settings in rounds."""

import argparse
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks import vectors
from benchmarks.index import process
from benchmarks.index.peers import OURS, Exact, make_peer
from benchmarks.index.process import LOADS
from benchmarks.index.results import Measured, Point
from tools.processes import fresh_process

#: Seconds between two measurements, so that spinning threads of the last library go to sleep.
_PAUSE_S = 0.1
#: Settings are raised until recall reaches this value, or until two steps gain less than this.
_ENOUGH_RECALL, _MIN_GAIN = 0.998, 0.0005
_SWEEP_S = 0.2


def run(arguments: argparse.Namespace, console: Console) -> list[Measured]:
    """Build all peers, try their settings, and measure them."""
    shape = vectors.Shape(
        arguments.vectors, arguments.dims, arguments.clusters, arguments.noise, arguments.queries
    )
    work = arguments.work_dir / f"{shape.vectors}x{shape.dims}"
    data = work / "data"
    with fresh_process() as pool:
        pool.submit(vectors.write, shape, data).result()
    results, workers = [], {}
    with ExitStack() as stack:
        for name in names(arguments.peers, arguments.targets):
            try:
                measured = build(name, data, work / name)
                workers[name] = stack.enter_context(fresh_process())
                workers[name].submit(process.load, name, data, work / name).result()
                measured.points = sweep(workers[name], name, shape.vectors)
            except Exception as error:  # noqa: BLE001  (whatever a library raises)
                console.print(f"[red]{name} is left out, because it failed: {error!r}[/]")
                continue
            results.append(measured)
            console.print(
                f"{name}: built in {measured.build_seconds:.1f} s, "
                f"{len(measured.points)} settings tried"
            )
        measure(results, workers, arguments, console)
        for measured in results:
            measured.serve_peak_mib = workers[measured.name].submit(process.peak_mib).result()
    return results


def names(peers: list[str], targets: list[float]) -> Iterator[str]:
    """Yield the names of the indexes to build: Shortlist's index is built once per target."""
    for peer in peers:
        yield from [f"{OURS}{target}" for target in targets] if peer == "ours" else [peer]


def build(name: str, data: Path, index: Path) -> Measured:
    """Build the index of a peer in a separate process."""
    shutil.rmtree(index, ignore_errors=True)
    index.mkdir(parents=True)
    measured, peer = Measured(name), make_peer(name)
    if not isinstance(peer, Exact):
        started = time.perf_counter()
        with fresh_process() as pool:
            measured.build_peak_mib = pool.submit(process.build, name, data, index).result()
        measured.build_seconds = time.perf_counter() - started
    loaded = peer.loaded_files(data, index)
    files = [loaded] if loaded.is_file() else [path for path in loaded.rglob("*") if path.is_file()]
    measured.size_mib = sum(file.stat().st_size for file in files) / 1024**2
    return measured


def sweep(pool: ProcessPoolExecutor, name: str, size: int) -> list[Point]:
    """Measure recall and speed with each setting of a peer, from the fastest to the most exact."""
    points = []
    for ladder in make_peer(name).ladders(size):
        climbed: list[Point] = []
        for setting in ladder:
            tuning_recall, recall = pool.submit(process.recall, setting).result()
            speeds = {
                str(load): pool.submit(process.time_searches, setting, load, _SWEEP_S).result()
                for load in LOADS
            }
            climbed.append(Point(setting, tuning_recall, recall, speeds))
            gain = tuning_recall - climbed[max(0, len(climbed) - 3)].tuning_recall
            if tuning_recall >= _ENOUGH_RECALL or (len(climbed) > 2 and gain < _MIN_GAIN):
                break
        points += climbed
        if climbed[-1].tuning_recall >= _ENOUGH_RECALL:
            break
    return points


def measure(
    results: list[Measured],
    workers: dict[str, ProcessPoolExecutor],
    arguments: argparse.Namespace,
    console: Console,
) -> None:
    """Measure the chosen settings of all peers in rounds, each round in a different order."""
    cases = [
        (workers[measured.name], point, load)
        for measured in results
        for point in measured.fastest_points(arguments.targets)
        for load in LOADS
    ]
    for number in range(arguments.rounds):
        random.Random(number).shuffle(cases)
        for pool, point, load in cases:
            time.sleep(_PAUSE_S)
            timing = pool.submit(process.time_searches, point.setting, load, arguments.seconds)
            point.rates.setdefault(str(load), []).append(timing.result())
        console.print(f"round {number + 1} of {arguments.rounds}: {len(cases)} measurements")
