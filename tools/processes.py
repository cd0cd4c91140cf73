"""Server processes: starting a server, waiting until it is ready, signalling and stopping it."""

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO, Self

import psutil

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
_READY = re.compile(r" ready on (\S+:\d+)")
_POLL_INTERVAL_S = 0.002


class ProcessError(Exception):
    """A process ended too early, or did not become ready or end in time."""


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command that runs ``python -m module`` with the current interpreter."""
    return [sys.executable, "-m", *module.split(), *arguments]


def environment() -> dict[str, str]:
    """Return an environment in which child processes import the modules of this checkout."""
    path = [str(ROOT), str(ROOT / "proto"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def fresh_process() -> ProcessPoolExecutor:
    """Return a pool of one new process, which shares no state with the calling process."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def free_port() -> int:
    """Return a TCP port that is free on 127.0.0.1 at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def printed_address(output: str) -> str | None:
    """Return the address from a "ready on HOST:PORT" line, or None if there is no such line."""
    match = _READY.search(output)
    return match[1] if match else None


class Server:
    """A server process. As a context manager, it is stopped at the end of the block.

    Attributes:
        address: HOST:PORT at which the server listens.
        popen: the current process; every start replaces it.
        process: the current process as a psutil object.
        log: the file that contains the output of the current process; None if a pipe receives it.
        startup_s: seconds from the last start until the server was ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        ready: Callable[[str], str | None] = printed_address,
        restart_nice: int = 0,
    ) -> None:
        """Start a server and wait until it is ready.

        Args:
            command: the program and its arguments. If the command ends with ``--port 0``, a
                restarted server listens on the same port as before.
            log: the file for stdout and stderr; each restart adds a number to the file name.
                Without a log, stdout is a pipe: after the ready line, the caller reads
                ``popen.stdout``. stderr is inherited.
            ready: takes the output so far; returns HOST:PORT once the server is ready, or None.
            restart_nice: the nice value of the process after a restart.

        Raises:
            ProcessError: the process ended, or was not ready in time.
        """
        self._command, self._first_log, self._ready = list(command), log, ready
        self._restart_nice = restart_nice
        self._starts = 0
        self.log = log
        self.start()

    def start(self) -> None:
        """Start the process, for the first time or again, and wait until it is ready.

        Raises:
            ProcessError: the process ended, or was not ready in time.
        """
        self._starts += 1
        start = time.perf_counter()
        with contextlib.ExitStack() as stack:
            output: int | IO[bytes] = subprocess.PIPE
            if self._first_log:
                if self._starts > 1:
                    self.log = self._first_log.with_stem(f"{self._first_log.stem}-{self._starts}")
                assert self.log
                output = stack.enter_context(self.log.open("wb"))
            self.popen = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output if self.log else None,
                text=True,
                # Ctrl-C interrupts only the parent, which then stops its servers in order.
                start_new_session=True,
            )
        self.process = psutil.Process(self.popen.pid)
        if self._starts > 1 and self._restart_nice:
            _set_nice(self.process, self._restart_nice)
        try:
            self.address = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.startup_s = time.perf_counter() - start
        if self._command[-2:] == ["--port", "0"]:
            self._command[-1] = self.address.rpartition(":")[2]

    @property
    def running(self) -> bool:
        """Return True until the process has ended."""
        return self.popen.poll() is None

    def output(self) -> str:
        """Return what the current process has written to its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has ended."""
        self.popen.kill()
        self.popen.wait()

    def pause(self) -> None:
        """Send SIGSTOP: the process stops running and keeps its connections."""
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds until the process ended.

        Raises:
            ProcessError: the process did not end in time.
        """
        start = time.perf_counter()
        self.popen.terminate()
        try:
            return self.popen.wait(STOP_TIMEOUT_S), time.perf_counter() - start
        except subprocess.TimeoutExpired:
            raise ProcessError(
                f"{' '.join(self._command)} did not end within {STOP_TIMEOUT_S} s after SIGTERM"
            ) from None

    def stop(self) -> None:
        """Terminate the process and make sure that none of its children keeps running.

        Raises:
            ProcessError: the process had to be killed, because it did not end in time.
        """
        children = self.process.children(recursive=True) if self.running else []
        try:
            if self.running:
                self.resume()
                self.terminate()
        finally:
            if self.running:
                self.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            if self.popen.stdout:
                self.popen.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self) -> str:
        if self.log is None:
            return self._read_until_ready()
        start = time.perf_counter()
        while not (address := self._ready(self.output())):
            if not self.running or time.perf_counter() - start > START_TIMEOUT_S:
                raise self._start_error(self.output())
            time.sleep(_POLL_INTERVAL_S)
        return address

    def _read_until_ready(self) -> str:
        assert self.popen.stdout is not None
        lines = []
        for line in self.popen.stdout:
            if address := self._ready(line):
                return address
            lines.append(line)
        raise self._start_error("".join(lines))

    def _start_error(self, output: str) -> ProcessError:
        state = "is not ready" if self.running else f"ended with status {self.popen.returncode}"
        last_lines = "\n".join(output.strip().splitlines()[-8:])
        return ProcessError(f"{' '.join(self._command)} {state}; its last output:\n{last_lines}")


def _set_nice(process: psutil.Process, nice: int) -> None:
    process.nice(nice)
    # With autogroup scheduling, Linux compares the nice values of processes only within a session,
    # and the whole session has a nice value of its own.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/autogroup").write_text(f"{nice}", encoding="ascii")
