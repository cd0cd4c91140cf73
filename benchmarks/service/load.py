"""The load of benchmarks.service: h2load against one address, and what the servers spend.

h2load (nghttp2) sends one and the same request all the time. It takes any HTTP 200 for a success,
but the status of a gRPC call is in its trailers: whoever calls has asked once and looked at the
answer, and here the bytes of all answers are held against the bytes of that one.
"""

import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.service.usage import Meter, Parts, Usage, memory_mib

#: Before the measured part of every turn.
WARM_UP_S = 1
#: Connections of HTTP/2 at the most; more requests at a time are streams of them.
CONNECTIONS = 8
_TIMEOUT_S = 60
_OK = 200
#: Requests under way on a connection at the most, where they are sent at a rate.
_STREAMS = 100
#: Frame headers of an answer's headers, data and trailers.
_FRAMES_BYTES = 27
#: Share of the bytes that may be missing: answers that the beginning or the end cuts.
_CUT = 0.005
#: Answers of more bytes come in many pieces, of which a cut may take any part.
_LARGE_BYTES = 65_536


class Failed(Exception):
    """What was to be measured did not work."""


@dataclass(frozen=True)
class Request:
    """What is sent: ``body`` to ``http://address/path``, in HTTP/1.1 or else as a gRPC call."""

    path: str
    body: bytes
    http1: bool = False

    @property
    def sent(self) -> bytes:
        """The body as it is on the wire: that of a gRPC call has a prefix."""
        return self.body if self.http1 else b"\0" + len(self.body).to_bytes(4, "big") + self.body


@dataclass(frozen=True)
class Load:
    """How many requests are under way; or, with a rate, how many a second are sent.

    With a rate, requests are sent whether or not others have been answered, at times drawn
    independently of one another, over ``CONNECTIONS`` connections.
    """

    concurrency: int
    rate: float = 0.0

    def options(self, http1: bool) -> list[str]:
        """Of h2load, without a rate."""
        connections = self.concurrency if http1 else min(self.concurrency, CONNECTIONS)
        return ["-c", f"{connections}", "-m", f"{self.concurrency // connections}"]


@dataclass
class Sample:
    """What one turn gave.

    Attributes:
        rate: answers per second.
        p50_ms: median time to an answer.
        p99_ms: of 100 answers, one takes longer.
        cpu_ms: processor time of a request, by the part of the peer that spent it. So many
            milliseconds a request are so many seconds for 1,000 requests.
        memory_mib: resident memory, by the part of the peer.
        largest_mib: of the process of each part that has most.
        cores: processors in use by servers, load and all else on the machine.
        other_cores: those of them that neither servers nor load were using.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: dict[str, float]
    memory_mib: dict[str, float]
    largest_mib: dict[str, float]
    cores: float
    other_cores: float


def h2load(
    address: str, request: Request, load: Load, seconds: float, answer_bytes: int, parts: Parts
) -> Sample:
    """One turn.

    Raises:
        Failed: there were errors, or answers of another size.
    """
    content = "application/json" if request.http1 else "application/grpc"
    with tempfile.TemporaryDirectory() as made:
        body = Path(made) / "body"
        body.write_bytes(request.sent)
        sent = ["h2load", "-t", "1", "-d", str(body), "-H", f"content-type: {content}"]
        sent += ["--h1"] if request.http1 else ["-H", "te: trailers"]
        if load.rate:
            scripts = [Path(made) / f"script-{number}" for number in range(CONNECTIONS)]
            for number, script in enumerate(scripts):
                script.write_text(_script(request.path, load.rate, seconds, number), "utf-8")
            loads = [
                [
                    *("-c", "1", "-m", f"{_STREAMS}", "-B", f"http://{address}"),
                    f"--timing-script-file={script}",
                ]
                for script in scripts
            ]
        else:
            timed = ["-D", f"{seconds * 1e3:.0f}ms", "--warm-up-time", f"{WARM_UP_S}"]
            loads = [[*timed, *load.options(request.http1), f"http://{address}{request.path}"]]
        # h2load appends to a log that is there.
        logs = [Path(made) / f"log-{number}" for number in range(len(loads))]
        said, usage = _during(
            [[*sent, f"--log-file={log}", *one] for log, one in zip(logs, loads, strict=True)],
            seconds,
            parts,
        )
        rows = [
            [int(column) for column in line.split("\t")[:3]]
            for log in logs
            if log.exists()
            for line in log.read_text(encoding="utf-8").splitlines()
        ]
    for one in said:
        _check(one, answer_bytes, request.http1, load)
    if load.rate:
        # There the warm-up is in the log; and not all processes start at the same time.
        begun = min(row[0] for row in rows) + WARM_UP_S * 1_000_000
        rows = [row for row in rows if row[0] >= begun]
        seconds = (max(row[0] for row in rows) - begun) / 1e6
    times = sorted(row[2] / 1e3 for row in rows if row[1] == _OK)
    return _sample(times, len(times) / seconds, usage, parts)


def one_caller(call: Callable[[], object], seconds: float, parts: Parts) -> Sample:
    """One thread of Python that calls and calls."""
    end = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < end:
        call()
    times = []
    meter = Meter(parts)
    begun = now = time.perf_counter()
    while now < begun + seconds:
        call()
        then, now = now, time.perf_counter()
        times.append((now - then) * 1e3)
    return _sample(sorted(times), len(times) / (now - begun), meter.stop(), parts)


def _script(path: str, rate: float, seconds: float, number: int) -> str:
    """When one of the connections sends: milliseconds and paths, a Poisson process."""
    drawn = random.Random(number)
    at, lines = 0.0, []
    while (at := at + drawn.expovariate(rate / CONNECTIONS)) < WARM_UP_S + seconds:
        lines.append(f"{at * 1e3:.3f}\t{path}\n")
    return "".join(lines)


def _during(commands: list[list[str]], seconds: float, parts: Parts) -> tuple[list[str], Usage]:
    """Run h2load: what it says, and what was used in the measured part of it."""
    with ExitStack() as stack, ThreadPoolExecutor(len(commands)) as readers:
        begun = time.perf_counter()
        running = []
        for command in commands:
            one = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            stack.callback(one.wait)
            stack.callback(one.kill)
            running.append(one)
        outputs = [readers.submit(one.communicate, timeout=_TIMEOUT_S) for one in running]
        # A little inside, so that neither the start of h2load nor its end is counted.
        _until(begun + WARM_UP_S + 0.1)
        meter = Meter(parts, [psutil.Process(one.pid) for one in running])
        _until(begun + WARM_UP_S + max(seconds - 0.1, 0.2))
        usage = meter.stop()
        try:
            return [one.result()[0] for one in outputs], usage
        except subprocess.TimeoutExpired:
            raise Failed("h2load does not end") from None


def _check(said: str, answer_bytes: int, http1: bool, load: Load) -> None:
    requests = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", said)
    traffic = re.search(r"traffic: \S+ \((\d+)\) total", said)
    if not requests or not traffic:
        raise Failed(f"h2load: {said.strip()[-500:]}")
    done, succeeded, failed, errored = map(int, requests.groups())
    if not succeeded or failed or errored:
        raise Failed(f"{succeeded} of {done} answered, {failed} failed, {errored} errors")
    least = (answer_bytes + (0 if http1 else _FRAMES_BYTES)) * (1 - _CUT)
    if answer_bytes > _LARGE_BYTES:
        least *= max(0.0, 1 - load.concurrency / succeeded)
    if (each := int(traffic[1]) / succeeded) < least:
        raise Failed(f"{each:.0f} bytes an answer instead of {answer_bytes}: not all were good")


def _sample(times: list[float], rate: float, usage: Usage, parts: Parts) -> Sample:
    if not times:
        raise Failed("no answer in time")
    memory = memory_mib(parts)
    return Sample(
        rate,
        times[len(times) // 2],
        times[min(len(times) - 1, len(times) * 99 // 100)],
        {part: used / usage.wall_s / rate * 1e3 for part, used in usage.cpu_s.items()},
        {part: sum(sizes) for part, sizes in memory.items()},
        {part: max(sizes) for part, sizes in memory.items()},
        usage.cores,
        usage.other_cores,
    )


def _until(when: float) -> None:
    time.sleep(max(0.0, when - time.perf_counter()))
