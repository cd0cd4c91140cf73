"""The load that one process sends, at most about 5,000 requests per second.

In the closed loop, each answer is followed by the next request. In the open loop, requests are sent
at fixed times, whether or not earlier ones have been answered.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from query_service.load_test.connection import Connection
from query_service.load_test.plan import Plan
from query_service.load_test.tally import Tally


class Load:
    """The load of one process. Call :meth:`connect`, :meth:`start` and then :meth:`finish`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        call_numbers = itertools.count(plan.first_call)
        self._window = _Window(open_loop=plan.rate is not None)
        self._senders = [_Sender(plan, self._window, call_numbers) for _ in range(plan.connections)]
        self._stopped = threading.Event()
        self._open_loop = threading.Thread(target=self._run_open_loop)
        self._unsent = 0

    def connect(self) -> None:
        """Open all connections.

        Raises:
            LoadTestError: A connection fails. The message gives the address and the cause.
        """
        for sender in self._senders:
            sender.connection.connect()

    def close(self) -> None:
        """Close all connections of a load that was not started."""
        for sender in self._senders:
            sender.connection.close(cancel=True)

    def start(self) -> None:
        """Start sending. Measuring begins after the warm-up."""
        plan, window = self._plan, self._window
        window.start = time.perf_counter() + plan.warm_up_s
        window.end = window.start + plan.duration_s
        if window.open_loop:
            self._open_loop.start()
            return
        for number in range(plan.concurrency):
            self._senders[number % plan.connections].send(time.perf_counter())

    def progress(self) -> tuple[float, int, int]:
        """Return the measured seconds, the OK answers and the failed requests so far.

        The seconds are negative during the warm-up.
        """
        tallies = [sender.tally for sender in self._senders]
        return (
            time.perf_counter() - self._window.start,
            sum(tally.answers for tally in tallies),
            sum(tally.errors.total() for tally in tallies),
        )

    def finish(self, *, early: bool) -> Tally:
        """Stop sending, and return the sum of the counts of all connections.

        The open loop waits for its calls in flight, because the service would look faster than it
        is without the slowest answers. The closed loop, and any load that ends ``early``,
        cancels its calls in flight.
        """
        window = self._window
        if early:
            window.end = min(window.end, time.perf_counter())
            self._stopped.set()
        if window.open_loop:
            self._open_loop.join()
        total = Tally(unsent=self._unsent, unfinished=self._unsent)
        window.cancelled = early or not window.open_loop
        if window.cancelled:
            total.unfinished += sum(sender.connection.in_flight for sender in self._senders)
        last_answer = window.end
        for sender in self._senders:
            sender.connection.close(cancel=window.cancelled)
            last_answer = max(last_answer, sender.last_answer)
            total.merge(sender.tally)
        total.seconds = max(0.0, last_answer - window.start)
        return total

    def _run_open_loop(self) -> None:
        """Send calls at fixed times, but skip calls that are late by more than the timeout."""
        assert self._plan.rate is not None
        start = self._window.start - self._plan.warm_up_s + self._plan.delay_s
        for number in itertools.count():
            due = start + number / self._plan.rate
            if due >= self._window.end or self._stopped.wait(max(0.0, due - time.perf_counter())):
                return
            if time.perf_counter() - due > self._plan.timeout_s:
                self._unsent += due >= self._window.start
            else:
                self._senders[number % len(self._senders)].send(due)


@dataclass
class _Window:
    """The measurement window. ``start`` and ``end`` are ``time.perf_counter()`` values.

    Attributes:
        open_loop: Count the calls that are due in the window, instead of the calls answered in it.
        cancelled: True once the calls in flight are cancelled, so that they do not count.
    """

    open_loop: bool
    start: float = 0.0
    end: float = 0.0
    cancelled: bool = False

    def contains(self, due: float, answered: float) -> bool:
        """Return True if a call counts, given the times at which it was due and answered."""
        time_of_call = due if self.open_loop else answered
        return not self.cancelled and self.start <= time_of_call < self.end


class _Sender:
    """Sends calls over one connection, and counts the answers in the connection's thread.

    Attributes:
        tally: The counts in the measurement window.
        last_answer: The time of the last answer in the window.
    """

    def __init__(self, plan: Plan, window: _Window, call_numbers: Iterator[int]) -> None:
        self.tally = Tally()
        self.last_answer = 0.0
        self.connection = Connection(plan.address, plan.timeout_s, plan.credentials)
        self._requests = plan.requests
        self._window = window
        self._call_numbers = call_numbers

    def send(self, due: float) -> None:
        """Send the next call, whose latency counts from the time ``due``."""
        request = self._requests[next(self._call_numbers)]
        self.connection.send(self._requests.method, request, lambda call: self._done(call, due))

    def _done(self, call: "grpc.Future[bytes]", due: float) -> None:
        now = time.perf_counter()
        window = self._window
        if window.contains(due, now):
            self.last_answer = now
            self._count(call, now - due)
        if not window.open_loop and now < window.end:
            self.send(time.perf_counter())

    def _count(self, call: "grpc.Future[bytes]", latency_s: float) -> None:
        batch = self._requests.batch
        try:
            data = call.result()
        except grpc.RpcError as error:
            self.tally.add_error(error.code().name, error.details() or "", batch or 1)
            return
        if batch:
            self.tally.add_batch(data, latency_s)
        else:
            self.tally.add_answer(data, latency_s)
