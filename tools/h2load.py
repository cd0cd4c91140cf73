"""Runs h2load, the nghttp2 load generator, and reads its measurements.

h2load uses a tenth of the processor time of a Python client. It counts every HTTP status 200 as a
success, although the trailers of a gRPC call may report a failure. Because failed calls have no
DATA frames, the number of successful calls is the size of all DATA frames divided by the size of
one successful answer.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
import psutil

INSTALL_HINT = "h2load is not installed (Debian: apt-get install nghttp2-client)"
#: gRPC puts a flag and the length before each message.
GRPC_PREFIX_BYTES = 5
OK_STATUS = 200
_EXIT_TIMEOUT_S = 60
_REQUESTS = re.compile(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored")
_TRAFFIC = re.compile(r"traffic: .* \((\d+)\) data$", re.MULTILINE)


class H2loadError(Exception):
    """h2load failed. The message contains the end of its output."""


@dataclass(frozen=True)
class Request:
    """A POST of ``body`` to ``path``: a gRPC call over HTTP/2, or JSON over HTTP/1.1.

    If ``deadline_s`` is set, a gRPC call has this deadline.
    """

    path: str
    body: bytes
    http1: bool = False
    deadline_s: float | None = None

    def on_the_wire(self) -> bytes:
        """Return the body as it is sent; a gRPC message is preceded by a flag and its length."""
        return self.body if self.http1 else b"\0" + len(self.body).to_bytes(4, "big") + self.body

    def options(self) -> list[str]:
        """Return the h2load options for the protocol and the headers."""
        if self.http1:
            return ["--h1", "-H", "content-type: application/json"]
        options = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        if self.deadline_s:
            options += ["-H", f"grpc-timeout: {self.deadline_s * 1e3:.0f}m"]
        return options


@dataclass(frozen=True)
class Closed:
    """A closed loop: ``streams`` requests in flight on each connection."""

    connections: int
    streams: int
    seconds: float


@dataclass(frozen=True)
class Schedule:
    """An open loop: every connection sends a request at each of the times ``times_s``.

    A connection has at most ``streams`` requests in flight.
    """

    connections: int
    streams: int
    times_s: Sequence[float]


@dataclass(frozen=True)
class Measurement:
    """The measurements of one h2load process.

    Attributes:
        calls: one row per request with the columns sent_us, status (the HTTP status), latency_us.
        data_bytes: total size of the DATA frames of all answers.
    """

    calls: pd.DataFrame
    done: int
    succeeded: int
    failed: int
    errored: int
    data_bytes: int


class H2load:
    """Runs one h2load process per job, all at once, and kills them at the end of the block.

    Attributes:
        processes: the h2load processes, for measuring their processor use and memory.
    """

    def __init__(self, address: str, jobs: Sequence[tuple[Request, Closed | Schedule]]) -> None:
        self._address, self._jobs = address, jobs

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._running = [self._start(stack, *job) for job in enumerate(self._jobs)]
            self._stack = stack.pop_all()
        self.processes = [psutil.Process(process.pid) for process in self._running]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def finish(self) -> list[Measurement]:
        """Wait until all processes have ended; return the measurements of each process.

        Raises:
            H2loadError: a process did not end in time, or did not measure anything.
        """
        return [self._result(number, process) for number, process in enumerate(self._running)]

    def _file(self, number: int, suffix: str) -> Path:
        return self._directory / f"{number}.{suffix}"

    def _start(
        self, stack: ExitStack, number: int, job: tuple[Request, Closed | Schedule]
    ) -> "subprocess.Popen[bytes]":
        request, load = job
        body, log, script = (self._file(number, suffix) for suffix in ("body", "log", "script"))
        body.write_bytes(request.on_the_wire())
        command = ["h2load", "-t", "1", "-c", f"{load.connections}", "-m", f"{load.streams}"]
        command += ["-d", str(body), f"--log-file={log}", *request.options()]
        base = f"http://{self._address}"
        if isinstance(load, Closed):
            command += ["-D", f"{load.seconds * 1e3:.0f}ms", base + request.path]
        else:
            lines = (f"{at_s * 1e3:.3f}\t{request.path}\n" for at_s in load.times_s)
            script.write_text("".join(lines), encoding="utf-8")
            command += [f"--timing-script-file={script}", "-B", base]
        with self._file(number, "out").open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process

    def _result(self, number: int, process: "subprocess.Popen[bytes]") -> Measurement:
        _, load = self._jobs[number]
        duration_s = load.seconds if isinstance(load, Closed) else load.times_s[-1]
        try:
            process.wait(duration_s + _EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise H2loadError("h2load did not end in time") from None
        output = self._file(number, "out").read_text(encoding="utf-8", errors="replace")
        requests, traffic = _REQUESTS.search(output), _TRAFFIC.search(output)
        log = self._file(number, "log")
        if not requests or not traffic or not log.exists() or not log.stat().st_size:
            raise H2loadError(f"h2load: {output.strip()[-500:]}")
        calls = pd.read_csv(log, sep="\t", header=None, usecols=[0, 1, 2])
        calls.columns = pd.Index(["sent_us", "status", "latency_us"])
        done, succeeded, failed, errored = map(int, requests.groups())
        return Measurement(calls, done, succeeded, failed, errored, int(traffic[1]))


def installed() -> bool:
    """Return True if h2load is on the PATH."""
    return shutil.which("h2load") is not None
