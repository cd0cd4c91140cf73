"""Builds every index, tries its search settings, and measures them in rounds."""

import argparse
import importlib.util
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import vectors
from benchmarks.index.peers import OURS, peer
from benchmarks.index.results import LOADS, Measured, Point
from benchmarks.index.saved_models import Ours
from tools.processes import ROOT, python_module

#: Seconds between two measurements, so that threads that wait actively go to sleep.
_PAUSE_S = 0.1
#: Settings are raised up to this recall, and as long as two of them add this much.
_ENOUGH_RECALL, _MIN_GAIN = 0.998, 0.0005
_SWEEP_S = 0.2


class PeerError(Exception):
    """The process of a peer ended early; the end of its log."""


class PeerProcess:
    """The process of a peer; its peak memory is known once it has ended.

    The kernel counts the peak of the process that started it as well, so that one must be small.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._popen = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if "serve" in command else errors,
                stderr=errors,
                text=True,
            )

    def ask(self, **question: Any) -> dict[str, float]:
        """Send a question; return the answer."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps(question) + "\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise self._error() from None
        return self.answer()

    def answer(self) -> dict[str, float]:
        """Return the next answer."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise self._error()
        answer: dict[str, float] = json.loads(line)
        return answer

    def finish(self) -> float:
        """Wait for the end of the process; return its peak memory in MiB."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        _, status, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        if self._popen.returncode:
            raise self._error()
        return usage.ru_maxrss / 1024

    def kill(self) -> None:
        """End the process if it is still running."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()

    def _error(self) -> PeerError:
        status = self._popen.wait(60)
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return PeerError("\n".join([*lines[-8:], f"exit status {status}; log: {self._log}"]))


def run(arguments: argparse.Namespace, console: Console) -> list[Measured]:
    """Build, sweep and measure all peers."""
    shape = vectors.shape_of(arguments)
    work = arguments.work_dir / f"{shape.vectors}x{shape.dims}"
    data = work / "data"
    make_vectors(shape, data)
    results, processes = [], {}
    with ExitStack() as stack:
        for name in installed(arguments.peers, arguments.targets, console):
            try:
                measured = build(name, data, work / name)
                command = _command("serve", name, data)
                process = PeerProcess(command, work / f"{name}.serve.log")
                stack.callback(process.kill)
                process.answer()
                measured.points = sweep(process, name, shape.vectors)
            except PeerError as error:
                console.print(f"[red]{name} is left out, because it failed[/]\n{error}")
                continue
            results.append(measured)
            processes[name] = process
            console.print(
                f"{name}: built in {measured.build_seconds:.1f} s, "
                f"{len(measured.points)} settings tried"
            )
        measure(results, processes, arguments, console)
        for measured in results:
            measured.serve_peak_mib = processes[measured.name].finish()
    return results


def make_vectors(shape: vectors.Shape, directory: Path) -> None:
    """Make the vectors in a process of its own, unless the directory has them already."""
    made = directory / vectors.MADE
    if made.exists() and json.loads(made.read_text(encoding="utf-8")) == asdict(shape):
        return
    shutil.rmtree(directory, ignore_errors=True)
    options = [
        f"--{'' if value is not False else 'no-'}{name}"
        + ("" if isinstance(value, bool) else f"={value}")
        for name, value in asdict(shape).items()
    ]
    command = python_module("benchmarks.vectors", str(directory), *options)
    subprocess.run(command, cwd=ROOT, check=True)


def installed(names: list[str], targets: list[float], console: Console) -> Iterator[str]:
    """Yield the peers that are installed, ours once per target."""
    for name in names:
        variants = [f"{OURS}{target}" for target in targets] if name == "ours" else [name]
        needs = peer(variants[0]).needs
        if importlib.util.find_spec(needs) is None:
            console.print(f"[yellow]{name} is left out: {needs} is not installed[/]")
        else:
            yield from variants


def build(name: str, data: Path, index: Path) -> Measured:
    """Build the index of a peer from nothing."""
    shutil.rmtree(index, ignore_errors=True)
    index.mkdir(parents=True)
    one = peer(name)
    command = one.command(data, index) if isinstance(one, Ours) else _command("build", name, data)
    started = time.perf_counter()
    peak_mib = PeerProcess(command, index.with_name(f"{name}.build.log")).finish()
    measured = Measured(name, time.perf_counter() - started, peak_mib)
    loaded = one.model(index) if isinstance(one, Ours) else index
    if name == "exact":
        # Nothing is built: the vectors are the index.
        measured.build_seconds = measured.build_peak_mib = 0.0
        loaded = data / vectors.VECTORS
    files = [loaded] if loaded.is_file() else [one for one in loaded.rglob("*") if one.is_file()]
    measured.size_mib = sum(file.stat().st_size for file in files) / 1024**2
    if reports := sorted(index.glob("reports/*/metrics.json")):
        report = json.loads(reports[-1].read_text(encoding="utf-8"))
        measured.build_report = report.get("index", {})
    return measured


def sweep(process: PeerProcess, name: str, size: int) -> list[Point]:
    """Measure recall and speed of a peer's settings, from fast to exact."""
    points = []
    for ladder in peer(name).ladders(size):
        climbed: list[Point] = []
        for setting in ladder:
            recall = process.ask(do="recall", setting=setting)
            speeds = {
                str(load): process.ask(
                    do="time", setting=setting, seconds=_SWEEP_S, **asdict(load)
                )["rate"]
                for load in LOADS
            }
            climbed.append(Point(setting, recall["tuning"], recall["reported"], speeds))
            gain = climbed[-1].tuning - climbed[max(0, len(climbed) - 3)].tuning
            if climbed[-1].tuning >= _ENOUGH_RECALL or (len(climbed) > 2 and gain < _MIN_GAIN):
                break
        points += climbed
        if climbed[-1].tuning >= _ENOUGH_RECALL:
            break
    return points


def measure(
    results: list[Measured],
    processes: dict[str, PeerProcess],
    arguments: argparse.Namespace,
    console: Console,
) -> None:
    """Measure the contenders of all peers in rounds, each round in an order of its own."""
    cases = [
        (measured.name, point, load)
        for measured in results
        for point in measured.contenders(arguments.targets)
        for load in LOADS
    ]
    for number in range(arguments.rounds):
        random.Random(number).shuffle(cases)
        for name, point, load in cases:
            time.sleep(_PAUSE_S)
            answer = processes[name].ask(
                do="time", setting=point.setting, seconds=arguments.seconds, **asdict(load)
            )
            point.rates.setdefault(str(load), []).append(answer["rate"])
            point.cores.setdefault(str(load), []).append(answer["cores"])
        console.print(f"round {number + 1} of {arguments.rounds}: {len(cases)} measurements")


def _command(role: str, name: str, data: Path) -> list[str]:
    arguments = (role, name, str(data), str(data.with_name(name)))
    return python_module("benchmarks.index.process", *arguments)
