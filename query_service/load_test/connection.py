"""One TCP connection to a service, over which serialised requests are sent.

Calls are futures of gRPC's threaded client, and the connection's own thread runs their callbacks,
so that no thread waits for an answer. Against a server that answers with 100 candidates at once,
at concurrency 32, this made 11,200 requests per second of CPU time over one connection and 9,000
over eight; grpc.aio made 8,700 and 7,400, a blocking thread per request 6,700 and 7,000 (medians;
Python 3.11, grpcio 1.85, one process).
"""

import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from rpc.credentials import Credentials, call_metadata, open_channel

_OPTIONS: list[tuple[str, Any]] = [
    # Channels with the same address and options would share one TCP connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
]
_FINISH_INTERVAL_S = 0.005


class LoadTestError(Exception):
    """The load cannot be made, with the reason."""


class Connection:
    """A gRPC channel with a TCP connection of its own."""

    def __init__(
        self,
        address: str,
        timeout_s: float,
        credentials: Credentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """``timeout_s`` is the deadline of connecting and of every call."""
        credentials = credentials or Credentials()
        self._address, self._timeout_s = address, timeout_s
        self._channel = open_channel(address, credentials, [*_OPTIONS, *options])
        self._metadata = call_metadata(credentials)
        self._methods: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._calls: set[grpc.Future[bytes]] = set()

    def connect(self, method: str, request: bytes) -> None:
        """Wait for the connection. ``request`` is only sent if connecting fails.

        Raises:
            LoadTestError: connecting fails, with the cause, or takes too long.
        """
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        callback = states.put
        self._channel.subscribe(callback, try_to_connect=True)
        end = time.perf_counter() + self._timeout_s
        state = None
        try:
            while state is not grpc.ChannelConnectivity.READY:
                state = states.get(timeout=max(0.0, end - time.perf_counter()))
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    # gRPC reports the cause of the failure with a call only.
                    self._method(method)(request, timeout=self._timeout_s, metadata=self._metadata)
        except queue.Empty as error:
            message = f"{self._address}: no connection within {self._timeout_s:g} s"
            raise LoadTestError(message) from error
        except grpc.RpcError as error:
            message = f"{self._address}: {error.code().name}: {error.details()}"
            raise LoadTestError(message) from error
        finally:
            self._channel.unsubscribe(callback)

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for the connection, however often connecting fails.

        Raises:
            LoadTestError: it takes too long.
        """
        try:
            grpc.channel_ready_future(self._channel).result(timeout_s)
        except grpc.FutureTimeoutError:
            message = f"{self._address}: no connection within {timeout_s:g} s"
            raise LoadTestError(message) from None

    def send(
        self, method: str, request: bytes, done: "Callable[[grpc.Future[bytes]], None]"
    ) -> None:
        """Send a request; ``done`` is called with the finished call in a thread of gRPC."""
        call = self._method(method).future(
            request, timeout=self._timeout_s, metadata=self._metadata
        )
        self._calls.add(call)

        def finished(call: "grpc.Future[bytes]") -> None:
            try:
                done(call)
            finally:
                # Only now, because close() waits for the callbacks too.
                self._calls.discard(call)

        call.add_done_callback(finished)

    @property
    def in_flight(self) -> int:
        """Return the number of calls without an answer."""
        return len(self._calls)

    def close(self, *, cancel: bool = False) -> None:
        """Wait until no call is in flight, or cancel the calls; then close the connection."""
        while self._calls:
            if cancel:
                for call in self._calls.copy():
                    call.cancel()
            time.sleep(_FINISH_INTERVAL_S)
        self._channel.close()

    def _method(self, method: str) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(method)
        return self._methods[method]
