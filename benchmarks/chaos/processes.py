"""A server process that is harmed: killed, paused, started again, told to end."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import psutil

from benchmarks.chaos.checks import Broken

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 30
_READY = re.compile(r" ready on (\S+?:\d+)")

now = time.perf_counter


def environment() -> dict[str, str]:
    """Of all processes: this checkout's modules."""
    path = [str(ROOT), str(ROOT / "proto"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def wait_until(
    true: Callable[[], bool], limit_s: float, what: str, interval_s: float = 0.005
) -> float:
    """Look again and again; the seconds that it took.

    Raises:
        Broken: it takes longer than ``limit_s``.
    """
    begun = now()
    while not true():
        if now() - begun > limit_s:
            raise Broken(f"{what}: not within {limit_s:g} s")
        time.sleep(interval_s)
    return now() - begun


class Server:
    """A running process; a context manager that ends it, and all that it has started."""

    def __init__(self, name: str, command: Sequence[str], logs: Path, nice: int = 0) -> None:
        """Start it, and wait until it says where it listens; ``nice``: when it is started again.

        Raises:
            Broken: it ended, or takes too long.
        """
        self._name, self._logs, self._nice = name, logs, nice
        self._command = list(command)
        self._lives = 0
        self.address = ""
        self.start()

    @classmethod
    def module(cls, name: str, logs: Path, module: str, *arguments: str, nice: int = 0) -> Self:
        """``python -m MODULE --port 0``; started again, it listens where it did before."""
        command = [sys.executable, "-m", *module.split(), *arguments]
        return cls(name, [*command, "--port", "0"], logs, nice)

    def start(self) -> None:
        """Start it, the first time or again.

        Raises:
            Broken: it ended, or takes too long.
        """
        self._lives += 1
        self.log = self._logs / f"{self._name}-{self._lives}.log"
        with self.log.open("wb") as out:
            self._running = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C is for the parent, which ends the others in order.
                start_new_session=True,
            )
        self.process = psutil.Process(self._running.pid)
        if self._lives > 1 and self._nice:
            _make_nice(self.process, self._nice)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._running.poll() is None

    def said(self) -> str:
        """What it has printed in this life."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._running.kill()
        self._running.wait()

    def pause(self) -> None:
        """SIGSTOP: it stands still, its connections stay."""
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._running.send_signal(signal.SIGCONT)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; its exit status, and the seconds that it took.

        Raises:
            Broken: it does not end.
        """
        begun = now()
        self._running.terminate()
        try:
            return self._running.wait(_STOP_TIMEOUT_S), now() - begun
        except subprocess.TimeoutExpired:
            raise Broken(f"{self._name} does not end within {_STOP_TIMEOUT_S} s") from None

    def stop(self) -> None:
        """End it by force where it does not by itself. Nothing is left of it."""
        if self._running.poll() is not None:
            return
        family = [self.process, *self.process.children(recursive=True)]
        self.resume()
        self._running.terminate()
        try:
            self._running.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        for left in family[1:]:
            if left.is_running():
                left.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        begun = now()
        while not (found := _READY.search(self.said())):
            if self._running.poll() is not None or now() - begun > _START_TIMEOUT_S:
                last = "; ".join(self.said().strip().splitlines()[-3:])
                raise Broken(f"{self._name} does not start: {last} (see {self.log})")
            time.sleep(0.005)
        self.address = found[1]
        if self._command[-2:] == ["--port", "0"]:
            self._command[-1] = self.address.rpartition(":")[2]


def free_port() -> int:
    """One on which nobody listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _make_nice(process: psutil.Process, nice: int) -> None:
    process.nice(nice)
    # Where Linux groups the processes of a session, a nice value counts within its session only,
    # and the group has one of its own.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text(f"{nice}", encoding="ascii")


def memory_mib(process: psutil.Process) -> float:
    """Resident memory of a process and all that it has started; of what has ended, nothing."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return float(total) / 1024**2


class MemoryLog:
    """Resident memory of processes, sampled at an interval. A context manager."""

    def __init__(self, interval_s: float, **processes: psutil.Process) -> None:
        self._interval_s, self._processes = interval_s, processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.begun = now()
        #: MiB by name, one every interval.
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
                self.samples[name].append(memory_mib(process))


class Redis:
    """A redis-server on a port of its own; started again, it has what was saved."""

    def __init__(self, directory: Path, log: Path) -> None:
        """Start it without any data."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.port = free_port()
        where = ["--bind", "127.0.0.1", "--port", f"{self.port}", "--dir", str(directory)]
        # Written when it is told to, and only then.
        self._command = ["redis-server", *where, "--save", "", "--logfile", str(log)]
        self.start()

    def start(self) -> None:
        """Start it, the first time or again; returns when it answers.

        Raises:
            Broken: it does not.
        """
        self._running = subprocess.Popen(self._command, start_new_session=True)
        try:
            wait_until(self._answers, _STOP_TIMEOUT_S, "an answer of redis-server")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._running.kill()
        self._running.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._running.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
