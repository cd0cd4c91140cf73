"""Processor time and memory of processes, their children included."""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import psutil

MIB = 1024**2
_SETTLE_TIMEOUT_S = 60
_SETTLE_INTERVAL_S = 0.5
_IDLE_CORES = 0.05


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    return [process, *process.children(recursive=True)]


def memory_mib(process: psutil.Process) -> list[float]:
    """Return the resident memory of a process and of each descendant; nothing if it has ended."""
    sizes = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in tree(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes.append(one.memory_info().rss / MIB)
    return sizes


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time that a process and its descendants have used so far."""
    return sum(sum(one.cpu_times()[:2]) for one in tree(process))


def wait_until_idle(processes: Sequence[psutil.Process]) -> None:
    """Wait until the processes hardly use any processor time, a minute at most."""
    end = time.perf_counter() + _SETTLE_TIMEOUT_S
    while time.perf_counter() < end:
        before = sum(map(cpu_s, processes))
        time.sleep(_SETTLE_INTERVAL_S)
        if sum(map(cpu_s, processes)) - before < _IDLE_CORES * _SETTLE_INTERVAL_S:
            return


class MemoryLog:
    """Samples the resident memory of processes at an interval, for the time of a block.

    Attributes:
        samples: MiB by name of the process, one number per interval.
    """

    def __init__(self, interval_s: float, **processes: psutil.Process) -> None:
        self._interval_s, self._processes = interval_s, processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.samples: dict[str, list[float]] = {name: [] for name in processes}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._interval_s):
            for name, process in self._processes.items():
                self.samples[name].append(sum(memory_mib(process)))


@dataclass(frozen=True)
class Usage:
    """Processor use during an interval of ``wall_s`` seconds.

    Attributes:
        cpu_s: processor time of each server by its name.
        cores: processors in use on the whole machine, on average.
        other_cores: those of them that neither the servers nor the load generators used.
    """

    wall_s: float
    cpu_s: dict[str, float]
    cores: float
    other_cores: float


class Meter:
    """Measures processor use from its construction until :meth:`stop`."""

    def __init__(
        self, servers: Mapping[str, psutil.Process], generators: Sequence[psutil.Process] = ()
    ) -> None:
        """``generators`` make the load, beside the calling process."""
        self._servers = servers
        self._generators = [psutil.Process(), *generators]
        self._begin = self._read()

    def stop(self) -> Usage:
        """Return the processor use since the construction."""
        (at, servers, machine, generators), now = self._begin, self._read()
        wall_s = now[0] - at
        used = {name: now[1][name] - servers[name] for name in servers}
        machine_s = now[2] - machine
        # A generator that has ended reads as 0.
        generators_s = sum(max(0.0, b - a) for a, b in zip(generators, now[3], strict=True))
        others_s = max(0.0, machine_s - generators_s - sum(used.values()))
        return Usage(wall_s, used, machine_s / wall_s, others_s / wall_s)

    def _read(self) -> tuple[float, dict[str, float], float, list[float]]:
        """Return the time, and processor seconds of servers, machine and load generators."""
        servers = {name: cpu_s(process) for name, process in self._servers.items()}
        generators = [_own_cpu_s(one) for one in self._generators]
        return time.perf_counter(), servers, _machine_s(), generators


def _machine_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _own_cpu_s(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:2])
    except psutil.NoSuchProcess:
        return 0.0
