"""Runs several worker processes on one port: starts, watches, restarts and drains them.

The parent reserves the port without listening on it, and forks before anything has imported gRPC,
whose threads would not survive the fork. Each worker listens with SO_REUSEPORT, and the kernel
distributes connections among them.

Two kinds of pipe connect the processes. All workers read from one *lifeline*, whose other end only
the parent holds. If the parent is told to stop or dies, the lifeline closes and the workers drain.
Each worker writes to a *report* pipe of its own that it is ready, or why it cannot start. This pipe
closes when the worker ends.
"""

import functools
import logging
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from query_service.errors import StartError
from query_service.process import worker as worker_process
from query_service.process.sockets import reserve

logger = logging.getLogger(__name__)

#: A worker that ends is replaced at once. If the replacement ends, too, the next one starts after
#: this delay. The delay doubles with each further replacement, up to the maximum.
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 5.0
#: A worker that ends after running for this long is again replaced without a delay.
STABLE_AFTER_S = 30.0
#: Workers that have not ended this long after their grace period are killed.
KILL_AFTER_S = 3.0

#: SIGTERM kills a worker that has only begun to start, which counts as a normal exit.
_NORMAL_STATUSES = {0, -signal.SIGTERM}

#: Called with the port when a worker listens on it.
OnReady = Callable[[int], None]
#: Runs a worker. Takes its number, the port, and a function to call when the worker listens.
RunWorker = Callable[[int, int, OnReady], None]


def supervise(
    count: int,
    run_worker: RunWorker,
    host: str,
    port: int,
    *,
    grace_s: float,
    on_ready: OnReady,
    on_end: Callable[[int], None] = lambda _worker: None,
    extra_sockets: Sequence[socket.socket] = (),
) -> int:
    """Run workers until SIGTERM or SIGINT, and return the exit status of the service.

    The status is 0, or 1 if a worker did not drain.

    Args:
        count: The number of workers.
        run_worker: Runs in each worker process, and must return within ``grace_s`` seconds after
            SIGTERM. Worker numbers start at 0, and a replacement has the number of its predecessor.
        host: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        grace_s: The time in seconds that workers have to drain.
        on_ready: Called once, with the port, when all workers listen.
        on_end: Called with the number of each worker that has ended.
        extra_sockets: Sockets that reserve other ports for the workers, closed at shutdown.

    Raises:
        StartError: The port is taken, or a worker ended before all were ready.
    """
    reserved, port = reserve(host, port)
    reserved.extend(extra_sockets)
    # Python writes each signal to this pipe, and the supervisor waits for data in it. The handlers
    # only keep the signals from ending the process.
    stop, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def close_reserved() -> None:
        for reserved_socket in reserved:
            reserved_socket.close()

    def work(number: int, report_ready: Callable[[], None]) -> None:
        close_reserved()
        run_worker(number, port, lambda _port: report_ready())

    workers = _Workers(count, work, on_end)
    try:
        workers.watch(stop, lambda: on_ready(port))
    finally:
        # Another instance may take the port while this one drains.
        close_reserved()
        drained = workers.drain(grace_s + KILL_AFTER_S)
    return 0 if drained else 1


def next_delay_s(last_delay_s: float | None, lifetime_s: float) -> float:
    """Return the seconds to wait before a worker that has ended is replaced.

    Args:
        last_delay_s: The delay before the worker was started, or None if it replaced no other one.
        lifetime_s: The number of seconds that the worker ran.
    """
    if last_delay_s is None or lifetime_s >= STABLE_AFTER_S:
        return 0.0
    if last_delay_s == 0.0:
        return FIRST_DELAY_S
    return min(2 * last_delay_s, MAX_DELAY_S)


@dataclass(eq=False)
class _Worker:
    """A worker number, and the latest process that runs under this number.

    Attributes:
        number: The number of the worker.
        alive: True while the process runs.
        pid: The id of the process.
        status: The exit status of the process, or minus the number of the signal that ended it.
        report: The parent's end of the report pipe.
        ready: True once the process listens.
        reason: The reason that the process reported for its end.
        delay_s: The delay before the process was started, or None for the first process.
        start_s: The time at which the process was or will be started.
    """

    number: int
    alive: bool = False
    pid: int = 0
    status: int = 0
    report: int = -1
    ready: bool = False
    reason: str = ""
    delay_s: float | None = None
    start_s: float = 0.0

    def describe_end(self) -> str:
        """Return a description of how the process ended."""
        status = self.status
        if status >= 0:
            return f"worker {self.pid} ended with status {status}"
        return f"worker {self.pid} ended by signal {-status}, {signal.strsignal(-status)}"


class _Workers:
    """All workers of the service, and the pipes to them."""

    def __init__(
        self,
        count: int,
        work: Callable[[int, Callable[[], None]], None],
        on_end: Callable[[int], None],
    ) -> None:
        self._all = [_Worker(number) for number in range(count)]
        self._work, self._on_end = work, on_end
        self._all_were_ready = False
        self._lifeline, self._lifeline_write_end = os.pipe()
        self._selector = selectors.DefaultSelector()

    def watch(self, stop: int, on_ready: Callable[[], None]) -> None:
        """Keep all workers running until the file descriptor ``stop`` becomes readable."""
        self._selector.register(stop, selectors.EVENT_READ)
        while True:
            for worker in self._all:
                if not worker.alive and worker.start_s <= time.monotonic():
                    self._start(worker)
            next_s = min((worker.start_s for worker in self._all if not worker.alive), default=None)
            wait_s = None if next_s is None else max(0.0, next_s - time.monotonic())
            for key, _ in self._selector.select(wait_s):
                worker = key.data
                if worker is None:
                    self._selector.unregister(stop)
                    return
                if not self._read_report(worker):
                    self._schedule_replacement(worker, worker.describe_end())
            if not self._all_were_ready and all(worker.ready for worker in self._all):
                self._all_were_ready = True
                on_ready()

    def drain(self, limit_s: float) -> bool:
        """Drain all workers, kill those that take longer, and return True if all ended normally."""
        os.close(self._lifeline_write_end)
        drained = self._wait(limit_s)
        for worker in self._all:
            if worker.alive:
                os.kill(worker.pid, signal.SIGKILL)
        return self._wait(math.inf) and drained

    def _wait(self, limit_s: float) -> bool:
        """Wait until all workers have ended, and return False if one of them ended abnormally."""
        end_s = time.monotonic() + limit_s
        all_normal = True
        while any(worker.alive for worker in self._all) and time.monotonic() < end_s:
            # A selector accepts no infinite or very long timeout.
            for key, _ in self._selector.select(min(end_s - time.monotonic(), 60.0)):
                if not self._read_report(key.data) and key.data.status not in _NORMAL_STATUSES:
                    all_normal = False
                    # Workers that were never ready fail for the same reason, which was reported.
                    if self._all_were_ready:
                        logger.error("%s instead of draining", key.data.describe_end())
        return all_normal

    def _start(self, worker: _Worker) -> None:
        """Fork a process for a worker. If that fails, schedule another attempt."""
        worker.start_s = time.monotonic()
        worker.ready = False
        worker.reason = ""
        worker.report, report = os.pipe()
        try:
            worker.pid = os.fork()
        except OSError as error:
            os.close(worker.report)
            os.close(report)
            self._schedule_replacement(worker, f"a worker cannot be started: {error.strerror}")
            return
        if not worker.pid:
            os.close(self._lifeline_write_end)
            work = functools.partial(self._work, worker.number)
            worker_process.run(work, self._lifeline, report)
        os.close(report)
        worker.alive = True
        self._selector.register(worker.report, selectors.EVENT_READ, worker)

    def _read_report(self, worker: _Worker) -> bool:
        """Read a worker's report, and return False if the worker has ended."""
        data = os.read(worker.report, 65_536)
        if data:
            worker.ready = worker.ready or data.startswith(worker_process.READY)
            worker.reason += data.removeprefix(worker_process.READY).decode(errors="replace")
            return True
        self._selector.unregister(worker.report)
        os.close(worker.report)
        _, status = os.waitpid(worker.pid, 0)
        worker.alive, worker.status = False, os.waitstatus_to_exitcode(status)
        self._on_end(worker.number)
        return False

    def _schedule_replacement(self, worker: _Worker, event: str) -> None:
        """Set the time at which the worker is started again.

        Raises:
            StartError: Not all workers have been ready yet.
        """
        if not self._all_were_ready:
            raise StartError(worker.reason or f"{event} before it was ready")
        worker.delay_s = next_delay_s(worker.delay_s, time.monotonic() - worker.start_s)
        worker.start_s = time.monotonic() + worker.delay_s
        reason = f": {worker.reason}" if worker.reason else ""
        logger.error("%s%s (the next one starts in %g s)", event, reason, worker.delay_s)
