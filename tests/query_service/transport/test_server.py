"""The fast gRPC server behaves like grpc.aio's."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from query_service import transport
from query_service.transport.call import LOGGED_FAILURES_PER_S

SERVICE = "test.Service"


class Handlers:
    """Methods of every kind, which record what happened to them."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.entered = threading.Event()

    async def echo(self, request: bytes, _context: Any) -> bytes:
        return request

    async def slow(self, request: bytes, _context: Any) -> bytes:
        self.entered.set()
        try:
            await asyncio.sleep(float(request))
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"slept"

    async def fail(self, _request: bytes, _context: Any) -> bytes:
        raise ValueError("a bug")

    async def abort(self, _request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here", (("a-key", "a-value"),))
        raise AssertionError

    async def about(self, _request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        return f"{context.time_remaining()} {metadata.get('who')}".encode()

    async def count(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()

    async def write(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()
        self.entered.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def fail_later(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        raise ValueError("a bug")

    async def double(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for message in requests:
            yield message * 2

    def generic(self) -> grpc.GenericRpcHandler:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods: dict[str, Any] = {
            name: unary(getattr(self, name)) for name in ("echo", "slow", "fail", "abort", "about")
        }
        for name in ("count", "write", "fail_later"):
            methods[name] = stream(getattr(self, name))
        methods["double"] = grpc.stream_stream_rpc_method_handler(self.double)
        methods["number"] = unary(self.echo, _number)
        methods["numbers"] = grpc.stream_stream_rpc_method_handler(self.double, _number)
        return grpc.method_handlers_generic_handler(SERVICE, methods)


def _number(data: bytes) -> bytes:
    return str(int(data)).encode()


class Running:
    """A server in a loop and a thread of its own, and a channel to it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.handlers = Handlers()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server = self.run(self._start(make))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    async def _start(self, make: Callable[[], Any]) -> Any:
        server = make()
        server.add_generic_rpc_handlers((self.handlers.generic(),))
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def call(self, method: str, request: bytes = b"", **more: Any) -> Any:
        return self.unary(method)(request, **{"timeout": 10, **more})

    def unary(self, method: str) -> Any:
        return self.channel.unary_unary(f"/{SERVICE}/{method}")

    def stream(self, method: str) -> Any:
        return self.channel.unary_stream(f"/{SERVICE}/{method}")

    def stop(self) -> None:
        self.channel.close()
        self.run(self.server.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 8_000_000),
    # By default, core cancels waiting calls beyond a thousand.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
]
_SERVERS = {
    "fast": lambda: transport.Server(_OPTIONS),
    "aio": lambda: grpc.aio.server(options=_OPTIONS),
}


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def start(kind: str = "fast") -> Running:
            running = Running(_SERVERS[kind])
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture(params=_SERVERS)
def server(request: pytest.FixtureRequest, start: Callable[..., Running]) -> Running:
    return start(request.param)


@pytest.fixture
def fast(start: Callable[..., Running]) -> Running:
    return start()


def _code(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), str(caught.value.details())


def test_unary_call_returns_the_response(server: Running) -> None:
    assert server.call("echo", b"hello") == b"hello"
    assert server.call("echo", b"") == b""
    assert server.call("echo", b"x" * 3_000_000) == b"x" * 3_000_000


def test_failed_calls_end_with_a_status(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    unimplemented = (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    assert _code(lambda: server.call("nothing")) == unimplemented
    other: Any = server.channel.unary_unary("/other.Service/echo")
    assert _code(lambda: other(b"", timeout=10)) == unimplemented
    assert _code(lambda: server.call("fail"))[0] is grpc.StatusCode.UNKNOWN
    assert "a bug" in caplog.text
    code, _ = _code(lambda: server.call("echo", b"x" * 9_000_000))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.call("echo", b"after all that") == b"after all that"


def test_bug_in_a_handler_is_not_shown_to_the_caller(fast: Running) -> None:
    internal = (grpc.StatusCode.UNKNOWN, "internal error")
    assert _code(lambda: fast.call("fail")) == internal
    assert _code(lambda: list(fast.stream("fail_later")(b"", timeout=10))) == internal


def test_malformed_request_is_internal_and_not_logged(
    fast: Running, caplog: pytest.LogCaptureFixture
) -> None:
    unreadable = (grpc.StatusCode.INTERNAL, "Exception deserializing request!")
    assert fast.call("number", b"07") == b"7"
    assert _code(lambda: fast.call("number", b"seven")) == unreadable
    numbers: Any = fast.channel.stream_stream(f"/{SERVICE}/numbers")
    answers = numbers(iter([b"07", b"seven", b"8"]), timeout=10)
    assert next(answers) == b"77"
    assert _code(lambda: next(answers)) == unreadable
    assert not caplog.records


def test_rate_of_logged_tracebacks_is_limited(
    fast: Running, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    for _ in range(10 * LOGGED_FAILURES_PER_S):
        _code(lambda: fast.call("fail"))
    seconds = int(time.monotonic() - began) + 2
    assert 1 <= len(caplog.records) <= seconds * LOGGED_FAILURES_PER_S
    time.sleep(1.1)
    caplog.clear()
    _code(lambda: fast.call("fail"))
    assert [record.getMessage() for record in caplog.records] == ["a handler failed"]


def test_abort_sends_trailing_metadata(server: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.call("abort")
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "not here")
    assert ("a-key", "a-value") in [tuple(pair) for pair in error.trailing_metadata()]


def test_context_has_deadline_and_metadata(server: Running) -> None:
    remaining, who = server.call("about", metadata=[("who", "me")]).decode().split(" ")
    assert 8 < float(remaining) < 10.5
    assert who == "me"
    assert server.unary("about")(b"").decode() == "None None"


def test_streams_of_messages(server: Running) -> None:
    assert list(server.stream("count")(b"3", timeout=10)) == [b"0", b"1", b"2"]
    assert list(server.stream("count")(b"0", timeout=10)) == []
    double: Any = server.channel.stream_stream(f"/{SERVICE}/double")
    assert list(double(iter([b"a", b"b"]), timeout=10)) == [b"aa", b"bb"]
    assert list(double(iter([]), timeout=10)) == []
    answers = server.stream("fail_later")(b"", timeout=10)
    assert next(answers) == b"one"
    assert _code(lambda: next(answers))[0] is grpc.StatusCode.UNKNOWN


def test_stream_ends_when_its_caller_cancels(server: Running) -> None:
    answers = server.stream("write")(b"2", timeout=10)
    assert [next(answers), next(answers)] == [b"0", b"1"]
    # Otherwise the generator would still wait at ``yield``, where it is closed and not cancelled.
    assert server.handlers.entered.wait(5)
    answers.cancel()
    assert server.handlers.cancelled.wait(5)


def test_cancelled_call_cancels_its_handler(server: Running) -> None:
    future = server.unary("slow").future(b"30", timeout=30)
    assert server.handlers.entered.wait(5)
    future.cancel()
    assert server.handlers.cancelled.wait(5)


def test_deadline_cancels_the_handler(server: Running) -> None:
    code, _ = _code(lambda: server.call("slow", b"30", timeout=0.2))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.handlers.cancelled.wait(5)


def test_3_000_concurrent_calls_are_answered(fast: Running) -> None:
    futures = [fast.unary("echo").future(str(n).encode(), timeout=20) for n in range(3000)]
    assert [int(future.result()) for future in futures] == list(range(3000))


def test_call_without_a_message_is_refused(fast: Running) -> None:
    empty: Any = fast.channel.stream_unary(f"/{SERVICE}/echo")
    code, details = _code(lambda: empty(iter([]), timeout=10))
    assert (code, details) == (grpc.StatusCode.INTERNAL, "the call has no request message")


def test_stopping_server_finishes_calls_and_accepts_no_new_ones(server: Running) -> None:
    in_flight = server.unary("slow").future(b"0.6", timeout=10)
    assert server.handlers.entered.wait(5)
    stopping = threading.Thread(target=lambda: server.run(server.server.stop(5)))
    stopping.start()
    time.sleep(0.2)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        again: Any = channel.unary_unary(f"/{SERVICE}/echo")
        assert _code(lambda: again(b"", timeout=2))[0] is grpc.StatusCode.UNAVAILABLE
    assert in_flight.result() == b"slept"
    stopping.join(5)
    assert not stopping.is_alive()


def test_calls_are_cancelled_after_the_grace_period(server: Running) -> None:
    in_flight = server.unary("slow").future(b"30", timeout=30)
    assert server.handlers.entered.wait(5)
    began = time.monotonic()
    server.run(server.server.stop(0.3))
    assert 0.3 <= time.monotonic() - began < 5
    assert server.handlers.cancelled.wait(5)
    assert _code(in_flight.result)[0] in (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
    )


def test_taken_port_is_an_error(fast: Running) -> None:
    async def bind() -> None:
        second = transport.Server(_OPTIONS)
        try:
            with pytest.raises(RuntimeError, match="failed to bind"):
                second.add_insecure_port(f"127.0.0.1:{fast.port}")
        finally:
            await second.stop(0)

    fast.run(bind())
