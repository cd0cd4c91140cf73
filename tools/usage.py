"""Processor use and memory of processes and their descendants."""

import contextlib
import threading
import time
from typing import Self

import psutil

MIB = 1024**2


def memory_mib(process: psutil.Process) -> list[float]:
    """Return the resident MiB of a process and of each descendant; [] if the process has ended."""
    sizes = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes.append(member.memory_info().rss / MIB)
    return sizes


class MemoryLog:
    """Samples the resident memory of processes at a fixed interval until its block ends.

    Attributes:
        samples: for each process name, the MiB of the process and its descendants at each interval.
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


class CoreMeter:
    """Measures how many of the machine's cores are in use, from its creation to :meth:`read`."""

    def __init__(self) -> None:
        self._start, self._machine_s, self._own_s = _clocks()

    def read(self) -> tuple[float, float]:
        """Return the average number of cores in use in total, and by other programs.

        Other programs are all programs except this process and its descendants.
        """
        now, machine_s, own_s = _clocks()
        wall_s, used_s = now - self._start, machine_s - self._machine_s
        return used_s / wall_s, max(0.0, used_s - (own_s - self._own_s)) / wall_s


def _clocks() -> tuple[float, float, float]:
    """Return the time, and the processor seconds used by the machine and by this process tree."""
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)
    own_s = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            own_s += sum(process.cpu_times()[:2])
    return time.perf_counter(), sum(times) - idle_s, own_s
