"""h2load (nghttp2) as a load whose OK answers are counted, at a fraction of Python's cost.

The status of a gRPC call is in its trailers, which h2load does not read: to it every answer is an
HTTP 200. But it counts the bytes of all DATA frames, and a call that fails has none. Each of its
processes sends one and the same request, whose answer has one size, so the bytes over that size
are the OK answers, exactly. How long each request took is in its log, whatever the status: all
that took longer than the deadline count as not answered, be they OK or not.
"""

import re
import resource
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.chaos.asking import RETRIEVE
from benchmarks.chaos.checks import Broken

_PREFIX_BYTES = 5
_END_TIMEOUT_S = 60
_TRAFFIC = re.compile(r"traffic: .* \((\d+)\) data$", re.MULTILINE)


@dataclass(frozen=True)
class Turn:
    """What one turn gave.

    Attributes:
        good_per_s: OK answers within the deadline, a second.
        late_per_s: requests that took longer, a second.
        sent_per_s: requests, a second.
        cores: that h2load used.
    """

    good_per_s: float
    late_per_s: float
    sent_per_s: float
    cores: float


class H2load:
    """One process for each request of ``bodies``, with some connections each."""

    def __init__(
        self, address: str, bodies: Sequence[bytes], connections: int, deadline_s: float
    ) -> None:
        """Ask once for each of them.

        Raises:
            Broken: one is not answered.
        """
        self._address, self._bodies, self._deadline_s = address, bodies, deadline_s
        self._each = connections // len(bodies)
        with grpc.insecure_channel(address) as channel:
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RETRIEVE)
            try:
                self._sizes = [len(ask(body, timeout=30)) for body in bodies]
            except grpc.RpcError as error:
                raise Broken(f"{address}: {error.code().name} ({error.details()})") from error

    def closed(self, concurrency: int, seconds: float) -> Turn:
        """So many requests under way at any time."""
        each = concurrency // (len(self._bodies) * self._each)
        url = f"http://{self._address}{RETRIEVE}"
        options = ["-m", f"{each}", "-D", f"{seconds * 1e3:.0f}ms", url]
        return self._run([options] * len(self._bodies), seconds)

    def open(self, rate: float, seconds: float) -> Turn:
        """So many requests a second at fixed times, however many are under way.

        The connections of a process send at the same time.
        """
        count = len(self._bodies)
        # As many as can be under way within their deadlines, and half as many again.
        streams = int(1.5 * rate * self._deadline_s / (count * self._each)) + 1
        turns = rate / self._each
        options = []
        with tempfile.TemporaryDirectory() as made:
            for number in range(count):
                script = Path(made) / f"script-{number}"
                times = range(number, int(turns * seconds), count)
                lines = (f"{one / turns * 1e3:.3f}\t{RETRIEVE}\n" for one in times)
                script.write_text("".join(lines), encoding="utf-8")
                base = f"http://{self._address}"
                timed = [f"--timing-script-file={script}", "-B", base]
                options.append(["-m", f"{streams}", *timed])
            return self._run(options, seconds)

    def _run(self, options: Sequence[Sequence[str]], seconds: float) -> Turn:
        before = _children_s()
        with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
            logs = [Path(made) / f"log-{number}" for number in range(len(options))]
            running = []
            for number, (some, log) in enumerate(zip(options, logs, strict=True)):
                body = Path(made) / f"body-{number}"
                data = self._bodies[number]
                body.write_bytes(b"\0" + len(data).to_bytes(4, "big") + data)
                headers = ["content-type: application/grpc", "te: trailers"]
                headers.append(f"grpc-timeout: {self._deadline_s * 1e3:.0f}m")
                given = [part for one in headers for part in ("-H", one)]
                command = ["h2load", "-t", "1", "-c", f"{self._each}", "-d", str(body), *given]
                one = subprocess.Popen(
                    [*command, f"--log-file={log}", *some],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                stack.callback(one.wait)
                stack.callback(one.kill)
                running.append(one)
            said = [_output(one, seconds) for one in running]
            rows = [row for log in logs for row in _rows(log)]
        if not rows:
            raise Broken(f"h2load: {said[0].strip()[-300:]}")
        answers = sum(
            _data_bytes(one) / (size + _PREFIX_BYTES)
            for one, size in zip(said, self._sizes, strict=True)
        )
        late = sum(took_us > self._deadline_s * 1e6 for _, took_us in rows)
        begun = min(at_us for at_us, _ in rows)
        took_s = (max(at_us + took for at_us, took in rows) - begun) / 1e6
        return Turn(
            good_per_s=(answers - late) / took_s,
            late_per_s=late / took_s,
            sent_per_s=len(rows) / seconds,
            cores=(_children_s() - before) / took_s,
        )


def _output(process: "subprocess.Popen[str]", seconds: float) -> str:
    try:
        return process.communicate(timeout=seconds + _END_TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        raise Broken("h2load does not end") from None


def _data_bytes(said: str) -> int:
    found = _TRAFFIC.search(said)
    if not found:
        raise Broken(f"h2load: {said.strip()[-300:]}")
    return int(found[1])


def _rows(log: Path) -> list[tuple[int, int]]:
    """When each request was sent, and how long it took, both in microseconds."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    columns = (line.split("\t") for line in lines)
    return [(int(one[0]), int(one[2])) for one in columns]


def _children_s() -> float:
    """Processor time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
