"""What the servers of benchmarks.service spend: processor time and memory, children included."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

#: The processes of a peer by what they do in it.
Parts = Mapping[str, psutil.Process]

_TIMEOUT_S = 60
_QUIET_S = 0.5


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it has started."""
    return [process, *process.children(recursive=True)]


@dataclass(frozen=True)
class Usage:
    """Of an interval of ``wall_s`` seconds.

    Attributes:
        cpu_s: processor time of each part.
        cores: processors in use by all that runs on the machine.
        other_cores: those of them that neither servers nor load were using.
    """

    wall_s: float
    cpu_s: dict[str, float]
    cores: float
    other_cores: float


class Meter:
    """Counts from now on what servers use, and what ``generators`` and this process do."""

    def __init__(self, parts: Parts, generators: Sequence[psutil.Process] = ()) -> None:
        self._parts = parts
        self._generators = [psutil.Process(), *generators]
        self._before = self._read()

    def stop(self) -> Usage:
        """Since the beginning."""
        then, cpu, busy, generating = self._before
        now, cpu_now, busy_now, generating_now = self._read()
        wall = now - then
        used = {part: cpu_now[part] - cpu[part] for part in cpu}
        all_used = busy_now - busy
        # One that has ended has no more to say.
        known = zip(generating, generating_now, strict=True)
        load = sum(max(0.0, after - before) for before, after in known)
        others = max(0.0, all_used - load - sum(used.values()))
        return Usage(wall, used, all_used / wall, others / wall)

    def _read(self) -> tuple[float, dict[str, float], float, list[float]]:
        return (
            time.perf_counter(),
            cpu_seconds(self._parts),
            _busy_seconds(),
            [_generator_seconds(one) for one in self._generators],
        )


def cpu_seconds(parts: Parts) -> dict[str, float]:
    """Processor time of each part so far."""
    return {
        part: sum(sum(one.cpu_times()[:2]) for one in tree(process))
        for part, process in parts.items()
    }


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _generator_seconds(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:2])
    except psutil.NoSuchProcess:
        return 0.0


def memory_mib(parts: Parts) -> dict[str, list[float]]:
    """Resident memory of each process of each part."""
    return {
        part: [one.memory_info().rss / 1024**2 for one in tree(process)]
        for part, process in parts.items()
    }


def settle(parts: Parts) -> None:
    """Wait until the servers have done what an earlier load has left them with."""
    end = time.perf_counter() + _TIMEOUT_S
    while time.perf_counter() < end:
        before = sum(cpu_seconds(parts).values())
        time.sleep(_QUIET_S)
        if sum(cpu_seconds(parts).values()) - before < 0.05 * _QUIET_S:
            return
