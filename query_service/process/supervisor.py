"""Several worker processes on one port: started, watched, started again, drained.

The parent holds the port without listening on it, and forks before anything has imported gRPC,
whose threads would not survive that. Each worker listens for itself, with SO_REUSEPORT, and the
kernel spreads connections over them.

Two kinds of pipe connect them. Only the parent holds the other end of the workers' *leash*:
when it closes, because the parent was told to stop or has died, the workers drain. Each worker
has a *report* of its own: ready, or why it cannot start; and it closes when the worker ends.
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
from query_service.process import worker as process
from query_service.process.sockets import reserve

logger = logging.getLogger(__name__)

#: A worker that ends is replaced at once; if the next one does too, after 0.1 s, then 0.2 s, ...
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
#: ... unless it lived this long.
SETTLED_S = 30.0
#: Draining may take the grace period and this; then SIGKILL.
KILL_AFTER_S = 3.0

#: How a worker ends that was told to: SIGTERM kills one that has only begun to start.
_ENDED_WELL = {0, -signal.SIGTERM}

Ready = Callable[[int], None]
RunWorker = Callable[[int, int, Ready], None]


def supervise(
    count: int,
    run_worker: RunWorker,
    host: str,
    port: int,
    *,
    grace_s: float,
    ready: Ready,
    ended: Callable[[int], None] = lambda _worker: None,
    held: Sequence[socket.socket] = (),
) -> int:
    """Run ``count`` workers until SIGTERM or SIGINT: 0, or 1 where one did not end well then.

    ``run_worker`` is called in each worker with the worker's number from 0 on, which its
    replacement will have too, with the port (a free one, where ``port`` is 0), and with what to
    call when it listens there; it returns some time after SIGTERM. ``ready`` is called once, with
    the port, when all workers listen; ``ended`` with the number of each worker that has ended.
    ``held`` hold other ports for the workers; they are closed with those that hold this one.

    Raises:
        StartError: the port is taken, or a worker ended before all were ready.
    """
    reserved, port = reserve(host, port)
    reserved.extend(held)
    stop, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def work(number: int, report: Callable[[], None]) -> None:
        for one in reserved:
            one.close()
        run_worker(number, port, lambda _port: report())

    workers = _Workers(count, work, ended)
    try:
        workers.watch(stop, lambda: ready(port))
    finally:
        # The next service may have the port while this one drains.
        for one in reserved:
            one.close()
        ended_well = workers.drain(grace_s + KILL_AFTER_S)
    return 0 if ended_well else 1


def next_delay_s(last_s: float | None, lived_s: float) -> float:
    """How long to wait before a worker is replaced; ``last_s``: the wait before it, if any."""
    if last_s is None or lived_s >= SETTLED_S:
        return 0.0
    return min(2 * last_s, LONGEST_DELAY_S) or FIRST_DELAY_S


@dataclass(eq=False)
class _Worker:
    """One of the workers, through all its lives."""

    number: int
    alive: bool = False
    pid: int = 0
    status: int = 0  # of its last end; negative: the signal's number
    report: int = -1
    ready: bool = False
    said: str = ""
    delay_s: float | None = None
    start_s: float = 0.0  # when it was started, or is to be

    def end(self) -> str:
        """How it ended, in words."""
        status = self.status
        if status >= 0:
            return f"worker {self.pid} ended with status {status}"
        return f"worker {self.pid} ended by signal {-status}, {signal.strsignal(-status)}"


class _Workers:
    def __init__(
        self,
        count: int,
        work: Callable[[int, Callable[[], None]], None],
        ended: Callable[[int], None],
    ) -> None:
        self._all = [_Worker(number) for number in range(count)]
        self._work, self._ended = work, ended
        self._announced = False
        self._leash, self._leash_held = os.pipe()
        self._selector = selectors.DefaultSelector()

    def watch(self, stop: int, ready: Callable[[], None]) -> None:
        """Keep all of them alive until ``stop`` can be read."""
        self._selector.register(stop, selectors.EVENT_READ)
        while True:
            for worker in self._all:
                if not worker.alive and worker.start_s <= time.monotonic():
                    self._start(worker)
            due_s = min((worker.start_s for worker in self._all if not worker.alive), default=None)
            wait_s = None if due_s is None else max(0.0, due_s - time.monotonic())
            for key, _ in self._selector.select(wait_s):
                if key.data is None:
                    self._selector.unregister(stop)
                    return
                if not self._hear(key.data):
                    self._replace(key.data, key.data.end())
            if not self._announced and all(worker.ready for worker in self._all):
                self._announced = True
                ready()

    def drain(self, limit_s: float) -> bool:
        """End all of them; whether they ended by themselves, and well."""
        os.close(self._leash_held)
        ended_well = self._wait(limit_s)
        for worker in self._all:
            if worker.alive:
                os.kill(worker.pid, signal.SIGKILL)
        return self._wait(math.inf) and ended_well

    def _wait(self, limit_s: float) -> bool:
        """Until all have ended, or for so long; whether those that ended did so well."""
        end_s = time.monotonic() + limit_s
        ended_well = True
        while any(worker.alive for worker in self._all) and time.monotonic() < end_s:
            # A selector does not take any number of seconds.
            for key, _ in self._selector.select(min(end_s - time.monotonic(), 60.0)):
                if not self._hear(key.data) and key.data.status not in _ENDED_WELL:
                    ended_well = False
                    # Before, all fail for the same reason, and one has said so.
                    if self._announced:
                        logger.error("%s instead of draining", key.data.end())
        return ended_well

    def _start(self, worker: _Worker) -> None:
        worker.start_s, worker.ready, worker.said = time.monotonic(), False, ""
        worker.report, report = os.pipe()
        try:
            worker.pid = os.fork()
        except OSError as error:
            os.close(worker.report)
            os.close(report)
            self._replace(worker, f"a worker cannot be started: {error.strerror}")
            return
        if not worker.pid:
            os.close(self._leash_held)
            process.run(functools.partial(self._work, worker.number), self._leash, report)
        os.close(report)
        worker.alive = True
        self._selector.register(worker.report, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> bool:
        """Read what a worker reports; False once it has ended."""
        data = os.read(worker.report, 65_536)
        if data:
            worker.ready = worker.ready or data.startswith(process.READY)
            worker.said += data.removeprefix(process.READY).decode(errors="replace")
            return True
        self._selector.unregister(worker.report)
        os.close(worker.report)
        _, status = os.waitpid(worker.pid, 0)
        worker.alive, worker.status = False, os.waitstatus_to_exitcode(status)
        self._ended(worker.number)
        return False

    def _replace(self, worker: _Worker, what: str) -> None:
        if not self._announced:
            raise StartError(worker.said or f"{what} before it was ready")
        worker.delay_s = next_delay_s(worker.delay_s, time.monotonic() - worker.start_s)
        worker.start_s = time.monotonic() + worker.delay_s
        why = f": {worker.said}" if worker.said else ""
        logger.error("%s%s (the next one starts in %g s)", what, why, worker.delay_s)
