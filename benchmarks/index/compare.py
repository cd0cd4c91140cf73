"""How fast the index is: ours beside others, at equal recall@100.

    python -m benchmarks.index [--vectors 1000000] [--dims 64] [--targets 0.95 0.99]
        [--rounds 5] [--peers ours tfrs ...] [--work-dir DIR] [--json FILE] [--plot FILE]

Ours, through the signature of the SavedModel that `python -m trainer index` exports, TensorFlow
Recommenders' ScaNN layer, hnswlib, Faiss and the exact product. All search the same clustered
vectors for the same queries by dot product, k = 100. Each lives in a process of its own, so that
memory is its own, and is asked in turns while the others idle.

Half of the queries choose: every setting of a peer's search is tried, and the fastest that
reaches the target is its operating point. The other half reports. Wants the extra `benchmarks`;
a peer that is not installed is left out.
"""

import argparse
import importlib.util
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import vectors
from benchmarks.index.peers import CORES, OURS, PEERS, Ours, Setting, peer

ROOT = Path(__file__).resolve().parents[2]
CONSOLE = Console(width=None if sys.stdout.isatty() else 160)
#: Seconds between two processes' turns: threads that spin for work go to sleep.
_PAUSE = 0.1
#: A ladder is climbed no further than this recall, or when two rungs add less than this.
_ENOUGH, _GAIN = 0.998, 0.0005
_SWEEP_SECONDS = 0.2
#: Settings that the rounds measure for every target, the fastest of the sweep.
_CONTENDERS = 4


@dataclass(frozen=True)
class Load:
    """How queries come.

    Attributes:
        batch: queries in one call.
        callers: threads that call at the same time.
        threads: that the library may use for one call.
    """

    batch: int
    callers: int
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch}" + (f", {self.callers} callers" if self.callers > 1 else "")


LOADS = (Load(1, 1, 1), Load(32, 1, CORES), Load(32, CORES, 1))


@dataclass
class Point:
    """One setting of a peer: recall, and per load the rates of every round."""

    setting: Setting
    tuning: float
    recall: float
    sweep: dict[str, float]
    rates: dict[str, list[float]] = field(default_factory=dict)
    cores: dict[str, list[float]] = field(default_factory=dict)

    def swept(self) -> float:
        """Queries per second in the sweep, the geometric mean of all loads."""
        return statistics.geometric_mean(self.sweep.values())

    def speed(self) -> float:
        """The same, of the medians of the rounds."""
        return statistics.geometric_mean(map(statistics.median, self.rates.values()))


@dataclass
class Measured:
    """All there is to say of one peer."""

    name: str
    build_seconds: float = 0.0
    build_peak_mib: float = 0.0
    build_report: dict[str, Any] = field(default_factory=dict)
    serve_peak_mib: float = 0.0
    size_mib: float = 0.0
    points: list[Point] = field(default_factory=list)

    @property
    def target(self) -> float | None:
        """What it was tuned for when it was built: only ours is."""
        return float(self.name.removeprefix(OURS)) if self.name.startswith(OURS) else None

    @property
    def fixed(self) -> bool:
        """Whether it takes no part in equal recall: there is nothing to choose."""
        return self.target is None and not self.points[0].setting

    def front(self) -> list[Point]:
        """The settings that no other one beats in recall and, in the sweep, in speed."""
        front: list[Point] = []
        for point in sorted(self.points, key=Point.swept, reverse=True):
            if not front or point.tuning > front[-1].tuning:
                front.append(point)
        return front

    def contenders(self, targets: list[float]) -> list[Point]:
        """What the rounds measure: the front, and a few more that may be the fastest."""
        chosen = self.front()
        for target in targets:
            reaching = (one for one in self.points if one.tuning >= target)
            fastest = sorted(reaching, key=Point.swept, reverse=True)[:_CONTENDERS]
            chosen += [one for one in fastest if one not in chosen]
        return chosen

    def at(self, target: float) -> Point | None:
        """The fastest setting that reaches the target on the queries for choosing."""
        if self.target is not None:
            # Tuned when it was built; what came of it is reported as it is.
            return self.points[0] if self.target == target else None
        reaching = (one for one in self.points if one.rates and one.tuning >= target)
        return max(reaching, key=Point.speed, default=None)


class Failed(Exception):
    """A process of a peer ended early; the end of what it said."""


class Process:
    """A peer's process, and its peak memory once it has ended.

    The kernel counts the peak of the process that started it too: keep that one small.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._running = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if "serve" in command else errors,
                stderr=errors,
                text=True,
            )

    def ask(self, **question: Any) -> dict[str, float]:
        """One line, one answer."""
        assert self._running.stdin is not None
        try:
            self._running.stdin.write(json.dumps(question) + "\n")
            self._running.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        return self.answer()

    def answer(self) -> dict[str, float]:
        """The next answer."""
        assert self._running.stdout is not None
        line = self._running.stdout.readline()
        if not line:
            raise self._failure()
        answered: dict[str, float] = json.loads(line)
        return answered

    def end(self) -> float:
        """Wait for its end: its peak memory in MiB."""
        assert self._running.stdin is not None
        self._running.stdin.close()
        _, status, usage = os.wait4(self._running.pid, 0)
        self._running.returncode = os.waitstatus_to_exitcode(status)
        if self._running.returncode:
            raise self._failure()
        return usage.ru_maxrss / 1024

    def kill(self) -> None:
        """End it where it still runs."""
        if self._running.poll() is None:
            self._running.kill()
            self._running.wait()

    def _failure(self) -> Failed:
        status = self._running.wait(60)
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Failed("\n".join([*said[-8:], f"exit status {status}; all of it: {self._log}"]))


def make_data(shape: vectors.Shape, directory: Path) -> None:
    """Make the vectors, unless they lie there already; in a process of its own."""
    made = directory / vectors.MADE
    if made.exists() and json.loads(made.read_text(encoding="utf-8")) == asdict(shape):
        return
    shutil.rmtree(directory, ignore_errors=True)
    options = [
        f"--{'' if value is not False else 'no-'}{name}"
        + ("" if isinstance(value, bool) else f"={value}")
        for name, value in asdict(shape).items()
    ]
    command = [sys.executable, "-m", "benchmarks.vectors", str(directory), *options]
    subprocess.run(command, cwd=ROOT, check=True)


def build(name: str, data: Path, index: Path) -> Measured:
    """Build a peer's index from nothing."""
    shutil.rmtree(index, ignore_errors=True)
    index.mkdir(parents=True)
    made = peer(name)
    command = made.command(data, index) if isinstance(made, Ours) else _script("build", name, data)
    started = time.perf_counter()
    peak = Process(command, index.with_name(f"{name}.build.log")).end()
    measured = Measured(name, time.perf_counter() - started, peak)
    kept = made.model(index) if isinstance(made, Ours) else index
    if name == "exact":
        # Nothing is built: the vectors are the index.
        measured.build_seconds = measured.build_peak_mib = 0.0
        kept = data / vectors.VECTORS
    files = [kept] if kept.is_file() else [one for one in kept.rglob("*") if one.is_file()]
    measured.size_mib = sum(one.stat().st_size for one in files) / 1024**2
    reports = sorted(index.glob("reports/*/metrics.json"))
    if reports:
        report = json.loads(reports[-1].read_text(encoding="utf-8"))
        measured.build_report = report.get("index", {})
    return measured


def sweep(process: Process, name: str, size: int) -> list[Point]:
    """Climb a peer's ladders: recall and speed of its settings."""
    points = []
    for ladder in peer(name).ladders(size):
        climbed: list[Point] = []
        for setting in ladder:
            recall = process.ask(do="recall", setting=setting)
            speeds = {
                str(load): process.ask(
                    do="time", setting=setting, seconds=_SWEEP_SECONDS, **asdict(load)
                )["rate"]
                for load in LOADS
            }
            climbed.append(Point(setting, recall["tuning"], recall["reported"], speeds))
            gained = climbed[-1].tuning - climbed[max(0, len(climbed) - 3)].tuning
            if climbed[-1].tuning >= _ENOUGH or (len(climbed) > 2 and gained < _GAIN):
                break
        points += climbed
        if climbed[-1].tuning >= _ENOUGH:
            break
    return points


def measure(
    results: list[Measured], processes: dict[str, Process], arguments: argparse.Namespace
) -> None:
    """Rounds over all peers' contenders, each round in an order of its own."""
    turns = [
        (one.name, point, load)
        for one in results
        for point in one.contenders(arguments.targets)
        for load in LOADS
    ]
    for number in range(arguments.rounds):
        random.Random(number).shuffle(turns)
        for name, point, load in turns:
            time.sleep(_PAUSE)
            answer = processes[name].ask(
                do="time", setting=point.setting, seconds=arguments.seconds, **asdict(load)
            )
            point.rates.setdefault(str(load), []).append(answer["rate"])
            point.cores.setdefault(str(load), []).append(answer["cores"])
        CONSOLE.print(f"round {number + 1} of {arguments.rounds}: {len(turns)} turns")


def present(names: list[str], targets: list[float]) -> Iterator[str]:
    """The peers that are installed, ours once per target."""
    for name in names:
        every = [f"{OURS}{target}" for target in targets] if name == "ours" else [name]
        needs = peer(every[0]).needs
        if importlib.util.find_spec(needs) is None:
            CONSOLE.print(f"[yellow]{name} is left out: {needs} is not installed[/]")
        else:
            yield from every


def run(arguments: argparse.Namespace) -> list[Measured]:
    """Build, sweep and measure all peers."""
    shape = vectors.shape_of(arguments)
    work = arguments.work_dir / f"{shape.vectors}x{shape.dims}"
    data = work / "data"
    make_data(shape, data)
    results, processes = [], {}
    with ExitStack() as stack:
        for name in present(arguments.peers, arguments.targets):
            try:
                one = build(name, data, work / name)
                process = Process(_script("serve", name, data), work / f"{name}.serve.log")
                stack.callback(process.kill)
                process.answer()
                one.points = sweep(process, name, shape.vectors)
            except Failed as failed:
                CONSOLE.print(f"[red]{name} is left out: it failed[/]\n{failed}", markup=True)
                continue
            results.append(one)
            processes[name] = process
            CONSOLE.print(
                f"{name}: built in {one.build_seconds:.1f} s, {len(one.points)} settings tried"
            )
        measure(results, processes, arguments)
        for one in results:
            one.serve_peak_mib = processes[one.name].end()
    return results


def _script(role: str, name: str, data: Path) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.index.peers", role, name]
    return [*command, str(data), str(data.with_name(name))]


def main() -> None:
    """Measure; print the table, write JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    vectors.add_options(parser)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.95, 0.99])
    every = ["ours", *PEERS]
    parser.add_argument("--peers", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one turn")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "build" / "index-benchmark")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help=".png or .svg")
    arguments = parser.parse_args()
    arguments.work_dir = arguments.work_dir.resolve()
    results = run(arguments)
    # Only now: this process has to be small while it starts others.
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    from benchmarks.index import report as index_report

    loads = [str(load) for load in LOADS]
    machine = index_report.machine()
    CONSOLE.print(index_report.table(results, arguments.targets, loads))
    CONSOLE.print(f"{machine['cores']} cores, {machine['cpu']}; {machine['versions']}")
    CONSOLE.print(
        f"{arguments.rounds} rounds of {arguments.seconds} s; no peak can be below {floor:.0f} MiB"
    )
    if arguments.json:
        said = {
            "machine": machine,
            "options": {name: str(value) for name, value in vars(arguments).items()},
            "loads": [asdict(load) for load in LOADS],
            "floor_mib": floor,
            "peers": [asdict(one) for one in results],
        }
        arguments.json.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    if arguments.plot:
        index_report.plot(results, arguments.targets, loads, arguments.plot)
