"""The load that one process makes.

One process can load a service with about 5,000 requests a second; beyond that use more of them.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc

from query_service.load_test.connection import Connection
from query_service.load_test.requests import Requests
from query_service.load_test.tally import Tally
from rpc.credentials import Credentials


@dataclass(frozen=True)
class Plan:
    """The load of one process: an open loop if there is a ``rate``, else a closed loop.

    Attributes:
        first: number of the first call in ``requests``.
        connections: TCP connections.
        concurrency: requests in flight in the closed loop.
        rate: calls per second in the open loop.
        delay_s: time from the start until the first call of the open loop.
    """

    address: str
    requests: Requests
    first: int
    connections: int
    concurrency: int
    rate: float | None
    delay_s: float
    warm_up_s: float
    duration_s: float
    timeout_s: float
    credentials: Credentials = field(default_factory=Credentials)


class Load:
    """Call :meth:`connect`, then :meth:`start`, and at the end :meth:`finish`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        numbers = itertools.count(plan.first)
        self._window = _Window(open_loop=plan.rate is not None)
        self._senders = [_Sender(plan, self._window, numbers) for _ in range(plan.connections)]
        self._stopped = threading.Event()
        self._pacer = threading.Thread(target=self._pace)
        self._unsent = 0

    def connect(self) -> None:
        """Open all connections.

        Raises:
            LoadTestError: a connection fails, with the address and the cause.
        """
        for sender in self._senders:
            sender.connection.connect(self._plan.requests.method, self._plan.requests[0])

    def close(self) -> None:
        """Close all connections of a load that was not started."""
        for sender in self._senders:
            sender.connection.close(cancel=True)

    def start(self) -> None:
        """Start sending. The measured time begins after the warm-up."""
        plan, window = self._plan, self._window
        window.begin = time.perf_counter() + plan.warm_up_s
        window.end = window.begin + plan.duration_s
        if window.open_loop:
            self._pacer.start()
            return
        for n in range(plan.concurrency):
            self._senders[n % plan.connections].send(time.perf_counter())

    def progress(self) -> tuple[float, int, int]:
        """Return the seconds measured, negative in the warm-up, OK answers, failed requests."""
        tallies = [sender.tally for sender in self._senders]
        return (
            time.perf_counter() - self._window.begin,
            sum(tally.answers for tally in tallies),
            sum(tally.errors.total() for tally in tallies),
        )

    def finish(self, *, early: bool) -> Tally:
        """Stop sending and return the total.

        Calls of the open loop that are in flight are waited for, unless the load ends ``early``:
        without the slowest answers, the service would look faster than it is.
        """
        window = self._window
        if early:
            window.end = min(window.end, time.perf_counter())
            self._stopped.set()
        if window.open_loop:
            self._pacer.join()
        if early or not window.open_loop:
            window.closed = True
        total = Tally(unsent=self._unsent, unfinished=self._unsent)
        if window.closed:
            total.unfinished += sum(sender.connection.in_flight for sender in self._senders)
        latest = window.end
        for sender in self._senders:
            sender.connection.close(cancel=window.closed)
            latest = max(latest, sender.latest)
            total.merge(sender.tally)
        total.seconds = max(0.0, latest - window.begin)
        return total

    def _pace(self) -> None:
        """Send at the fixed times; skip calls that are late by more than the timeout."""
        assert self._plan.rate is not None
        start = self._window.begin - self._plan.warm_up_s + self._plan.delay_s
        for n in itertools.count():
            due = start + n / self._plan.rate
            if due >= self._window.end or self._stopped.wait(max(0.0, due - time.perf_counter())):
                return
            if time.perf_counter() - due > self._plan.timeout_s:
                self._unsent += due >= self._window.begin
            else:
                self._senders[n % len(self._senders)].send(due)


@dataclass
class _Window:
    """The measured time, in ``time.perf_counter()``.

    The closed loop counts calls that are answered in it, the open loop calls that are due in it.
    """

    open_loop: bool
    begin: float = 0.0
    end: float = 0.0
    closed: bool = False

    def counts(self, due: float, now: float) -> bool:
        return not self.closed and self.begin <= (due if self.open_loop else now) < self.end

    def send_next(self, now: float) -> bool:
        """Tell whether an answer at that time is followed by another request."""
        return not (self.open_loop or self.closed) and now < self.end


class _Sender:
    """Sends requests over one connection. Only the connection's thread writes ``tally``.

    Attributes:
        latest: when the last call that counts was answered.
    """

    def __init__(self, plan: Plan, window: _Window, numbers: Iterator[int]) -> None:
        self.tally = Tally()
        self.latest = 0.0
        self.connection = Connection(plan.address, plan.timeout_s, plan.credentials)
        self._requests, self._window, self._numbers = plan.requests, window, numbers

    def send(self, due: float) -> None:
        """Send the next request; its latency counts from ``due``."""
        request = self._requests[next(self._numbers)]
        self.connection.send(self._requests.method, request, lambda call: self._done(call, due))

    def _done(self, call: "grpc.Future[bytes]", due: float) -> None:
        now = time.perf_counter()
        if self._window.counts(due, now):
            self.latest = now
            self._count(call, now - due)
        if self._window.send_next(now):
            self.send(time.perf_counter())

    def _count(self, call: "grpc.Future[bytes]", latency_s: float) -> None:
        batch = self._requests.batch
        try:
            data = call.result()
        except grpc.RpcError as error:
            self.tally.add_error(error.code().name, error.details() or "", batch or 1)
            return
        (self.tally.add_batch if batch else self.tally.add_answer)(data, latency_s)
