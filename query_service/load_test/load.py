"""The load that one process makes.

Calls are futures of gRPC's threaded client, and each connection's own thread runs their
call-backs: that sends the next request, so no thread waits for an answer. Towards a server that
answers with 100 candidates at once, at a concurrency of 32, this made 11,200 requests per second
of CPU time over one connection and 9,000 over 8; grpc.aio 8,700 and 7,400; a blocking thread for
each request 6,700 and 7,000 (medians; Python 3.11, grpcio 1.85, one process). So one process loads
a service with up to some 5,000 requests a second; beyond that take more of them.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc

from query_service.client import channel, metadata
from query_service.load_test.requests import Requests
from query_service.load_test.tally import Tally
from rpc.credentials import Credentials

_OPTIONS = [
    # Channels of the same address and options would share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
]


class BenchError(Exception):
    """There is nothing to measure, or no way to."""


@dataclass(frozen=True)
class Plan:
    """What one process does. With ``rate`` the loop is open, else closed."""

    address: str
    requests: Requests
    #: Number of the first call in ``requests``.
    first: int
    connections: int
    #: Requests under way at a time; closed loop.
    concurrency: int
    #: Calls a second, the first of them ``delay_s`` after the start; open loop.
    rate: float | None
    delay_s: float
    warm_up_s: float
    duration_s: float
    timeout_s: float
    credentials: Credentials = field(default_factory=Credentials)


@dataclass(frozen=True)
class Progress:
    """Seconds that count, negative during the warm-up; OK answers; failed requests."""

    seconds: float
    answers: int
    errors: int


class Load:
    """:meth:`connect`, :meth:`start`, and at the end :meth:`finish`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        turn = itertools.count(plan.first)
        self._connections = [_Connection(plan, turn) for _ in range(plan.connections)]
        self._window = _Window(0.0, 0.0, open_loop=plan.rate is not None)
        self._stopped = threading.Event()
        self._pacer = threading.Thread(target=self._pace)
        self._unsent = 0

    def connect(self) -> None:
        """Open all connections.

        Raises:
            BenchError: with the address and the cause.
        """
        for connection in self._connections:
            connection.connect()

    def start(self) -> None:
        """Begin to send. What counts begins after the warm-up."""
        now = time.perf_counter()
        plan, window = self._plan, self._window
        window.begin = now + plan.warm_up_s
        window.end = window.begin + plan.duration_s
        for connection in self._connections:
            connection.window = window
        if window.open_loop:
            self._pacer.start()
            return
        for n in range(plan.concurrency):
            self._connections[n % plan.connections].send(time.perf_counter())

    def progress(self) -> Progress:
        """What there is so far."""
        tallies = [connection.tally for connection in self._connections]
        return Progress(
            time.perf_counter() - self._window.begin,
            sum(one.answers for one in tallies),
            sum(one.errors.total() for one in tallies),
        )

    def finish(self, *, early: bool) -> Tally:
        """Send no more, and add up.

        In the open loop what is under way is waited for, unless it ends ``early``: to leave out
        the slow answers would be to make the service look fast.
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
            total.unfinished += sum(connection.under_way for connection in self._connections)
        latest = window.end
        for connection in self._connections:
            connection.finish()
            latest = max(latest, connection.latest)
            total.merge(connection.tally)
        total.seconds = max(0.0, latest - window.begin)
        return total

    def _pace(self) -> None:
        """Send at the fixed times; what the tool is late with by its whole timeout, it leaves."""
        assert self._plan.rate is not None
        start = self._window.begin - self._plan.warm_up_s + self._plan.delay_s
        for n in itertools.count():
            due = start + n / self._plan.rate
            if due >= self._window.end or self._stopped.wait(max(0.0, due - time.perf_counter())):
                return
            if time.perf_counter() - due > self._plan.timeout_s:
                self._unsent += due >= self._window.begin
            else:
                self._connections[n % len(self._connections)].send(due)


@dataclass
class _Window:
    """What counts, in ``time.perf_counter()``.

    In the closed loop, what is answered in it; in the open loop, what is due in it.
    """

    begin: float
    end: float
    open_loop: bool
    closed: bool = False

    def counts(self, due: float, now: float) -> bool:
        return not self.closed and self.begin <= (due if self.open_loop else now) < self.end

    def goes_on(self, now: float) -> bool:
        """Whether an answer at that time is followed by another request."""
        return not (self.open_loop or self.closed) and now < self.end


class _Connection:
    """A channel with a TCP connection of its own. Only its thread writes its ``tally``."""

    def __init__(self, plan: Plan, turn: Iterator[int]) -> None:
        self.tally = Tally()
        #: When the last call that counts was answered.
        self.latest = 0.0
        self.window = _Window(0.0, 0.0, open_loop=False)
        self._plan = plan
        self._turn = turn
        self._channel = channel(plan.address, plan.credentials, _OPTIONS)
        self._metadata = metadata(plan.credentials)
        self._method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            plan.requests.method
        )
        self._calls: set[grpc.Future[bytes]] = set()

    def connect(self) -> None:
        """Wait for the connection.

        Raises:
            BenchError: it fails, or takes longer than the timeout.
        """
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        callback = states.put
        self._channel.subscribe(callback, try_to_connect=True)
        ends = time.perf_counter() + self._plan.timeout_s
        state = None
        try:
            while state is not grpc.ChannelConnectivity.READY:
                state = states.get(timeout=max(0.0, ends - time.perf_counter()))
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    # A call fails at once, with the cause.
                    self._method(
                        self._plan.requests[0],
                        timeout=self._plan.timeout_s,
                        metadata=self._metadata,
                    )
        except queue.Empty as error:
            message = f"{self._plan.address}: no connection in {self._plan.timeout_s:g} s"
            raise BenchError(message) from error
        except grpc.RpcError as error:
            message = f"{self._plan.address}: {error.code().name}: {error.details()}"
            raise BenchError(message) from error
        finally:
            self._channel.unsubscribe(callback)

    def send(self, due: float) -> None:
        """Send the request whose turn it is; its latency counts from ``due``."""
        request = self._plan.requests[next(self._turn)]
        call = self._method.future(request, timeout=self._plan.timeout_s, metadata=self._metadata)
        self._calls.add(call)
        call.add_done_callback(lambda call: self._done(call, due))

    @property
    def under_way(self) -> int:
        """How many calls have no answer yet."""
        return len(self._calls)

    def finish(self) -> None:
        """Return when no call is under way; where the window is closed, end them."""
        while self._calls:
            if self.window.closed:
                for call in self._calls.copy():
                    call.cancel()
            time.sleep(0.005)
        self._channel.close()

    def _done(self, call: grpc.Future[bytes], due: float) -> None:
        now = time.perf_counter()
        try:
            if self.window.counts(due, now):
                self.latest = now
                self._count(call, now - due)
            if self.window.goes_on(now):
                self.send(time.perf_counter())
        finally:
            # Only now: as long as there is one, finish() waits.
            self._calls.discard(call)

    def _count(self, call: grpc.Future[bytes], latency_s: float) -> None:
        batch = self._plan.requests.batch
        try:
            data = call.result()
        except grpc.RpcError as error:
            self.tally.failed(error.code().name, error.details() or "", batch or 1)
            return
        (self.tally.batch_retrieved if batch else self.tally.retrieved)(data, latency_s)
