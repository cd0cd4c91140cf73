"""One call: what handlers know as their context, and how messages and statuses go out."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc._cython import cygrpc

from query_service.transport import failures

_NO_FLAGS = 0
#: A caller without a deadline has one in 292 billion years.
_CENTURIES_S = 1e11
_NO_METADATA: tuple[tuple[str, Any], ...] = ()
_OK = grpc.StatusCode.OK.value[0]
#: Operations that hold nothing of their call: without metadata, and one whose result nobody reads.
_SEND_INITIAL_METADATA = cygrpc.SendInitialMetadataOperation(_NO_METADATA, _NO_FLAGS)
_UNREAD_CLOSE = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)

#: A ``grpc.RpcMethodHandler``; None where there is no such method.
Handler = Any


@dataclass(frozen=True)
class UnaryHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]
    """A method from bytes to bytes that can be refused before anything is done for it.

    Attributes:
        unary_unary: the coroutine. It gets the request and the context, and has to refuse by itself
            too: grpc.aio does not know ``refusal``.
        refusal: why no call can be taken now; None where one can.
    """

    unary_unary: Callable[[bytes, Any], Awaitable[bytes]]
    refusal: Callable[[], tuple[grpc.StatusCode, str] | None]
    request_streaming: bool = False
    response_streaming: bool = False
    request_deserializer: None = None
    response_serializer: None = None


class Call:
    """A call from its request to its status, with the part of ``grpc.aio.ServicerContext`` in use.

    Core keeps it alive by the tag of the operation that ends with the call.
    """

    def __init__(self, event: Any, handler: Handler) -> None:
        """Take the call of a request-call event."""
        self._core = event.call
        self._deadline_s: float = event.call_details.deadline
        self._metadata = event.invocation_metadata
        self._handler = handler
        self._trailing_metadata = _NO_METADATA
        self._task: asyncio.Task[None] | None = None
        self._initial_metadata_sent = self._status_sent = False
        if handler is None:
            self._refuse(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        elif isinstance(handler, UnaryHandler) and (refused := handler.refusal()):
            self._refuse(*refused)
        else:
            self._core.start_server_batch(
                (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._closed
            )
            if handler.request_streaming:
                self._run(self._messages())
            else:
                self._receive(self._received)

    # What handlers use.

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None where there is none."""
        if self._deadline_s > _CENTURIES_S:
            return None
        return max(0.0, self._deadline_s - time.time())

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """The caller's metadata."""
        return self._metadata  # type: ignore[no-any-return]

    def peer(self) -> str:
        """Where the caller is, as core says it."""
        return str(self._core.peer().decode())

    async def write(self, message: Any) -> None:
        """Send one message of a stream."""
        await self._batch(
            *self._initial_metadata(), cygrpc.SendMessageOperation(self._serialized(message), 0)
        )

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call with a status. Raises ``grpc.aio.AbortError``."""
        self._trailing_metadata = tuple(trailing_metadata)
        self._send_status(code, details)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """The same with a ``grpc.Status``."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    # How a handler is run.

    def _received(self, event: Any) -> None:
        data = event.batch_operations[0].message()
        if data is not None:
            self._run(data)
        elif event.success:
            # A caller that sends no message, or has gone: in that case nobody reads this.
            self._send_status(grpc.StatusCode.INTERNAL, "there is no request message")

    def _run(self, request: bytes | AsyncIterator[Any]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: bytes | AsyncIterator[Any]) -> None:
        handler = self._handler
        try:
            if isinstance(request, bytes):
                request = await self._deserialized(request)
            if handler.response_streaming:
                await self._stream(handler.unary_stream or handler.stream_stream, request)
                self._send_status(grpc.StatusCode.OK, "")
            else:
                self._send_message(self._serialized(await handler.unary_unary(request, self)))
        except (grpc.aio.AbortError, asyncio.CancelledError):
            pass
        # A bug: the caller gets no more than that, the log where it was.
        except Exception:  # noqa: BLE001
            failures.log("a handler failed")
            self._send_status(grpc.StatusCode.UNKNOWN, "internal error")

    async def _stream(self, behaviour: Callable[..., Any], request: Any) -> None:
        """A generator of messages, or a coroutine that writes them."""
        answers = behaviour(request, self)
        if hasattr(answers, "__aiter__"):
            async for message in answers:
                await self.write(message)
        else:
            await answers

    async def _messages(self) -> AsyncIterator[Any]:
        """The messages of a stream of requests."""
        while True:
            received: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._receive(functools.partial(_set, received))
            data = (await received).batch_operations[0].message()
            if data is None:
                return
            yield await self._deserialized(data)

    async def _deserialized(self, data: bytes) -> Any:
        """A message. One that is none ends the call: it is the caller's fault, and not logged."""
        deserialize = self._handler.request_deserializer
        try:
            return deserialize(data) if deserialize else data
        except Exception:  # noqa: BLE001
            # As grpcio says it.
            await self.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")

    def _closed(self, event: Any) -> None:
        """The call is over. If the caller cancelled it or its deadline passed, so is the work."""
        if event.batch_operations[0].cancelled():
            self._status_sent = True
            if self._task is not None:
                self._task.cancel()

    # What goes to core.

    def _serialized(self, message: Any) -> bytes:
        serialize = self._handler.response_serializer
        return serialize(message) if serialize else message  # type: ignore[no-any-return]

    def _receive(self, tag: Callable[[Any], None]) -> None:
        self._core.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), tag)

    def _send_message(self, data: bytes) -> None:
        """The only message, with all that goes before and after it, in one batch."""
        if self._status_sent:
            return
        self._status_sent = True
        self._core.start_server_batch(
            (
                _SEND_INITIAL_METADATA,
                cygrpc.SendMessageOperation(data, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(self._trailing_metadata, _OK, b"", _NO_FLAGS),
            ),
            _sent,
        )

    def _refuse(self, code: grpc.StatusCode, details: str) -> None:
        """The whole of a call in one batch, and so in one event."""
        status = self._status(code, details)
        self._core.start_server_batch((_UNREAD_CLOSE, _SEND_INITIAL_METADATA, status), _sent)

    def _send_status(self, code: grpc.StatusCode, details: str) -> None:
        if self._status_sent:
            return
        self._status_sent = True
        status = self._status(code, details)
        self._core.start_server_batch((*self._initial_metadata(), status), _sent)

    def _status(self, code: grpc.StatusCode, details: str) -> Any:
        return cygrpc.SendStatusFromServerOperation(
            self._trailing_metadata, code.value[0], details.encode(), _NO_FLAGS
        )

    def _initial_metadata(self) -> tuple[Any, ...]:
        """The operation that sends it, the first time."""
        if self._initial_metadata_sent:
            return ()
        self._initial_metadata_sent = True
        return (_SEND_INITIAL_METADATA,)

    async def _batch(self, *operations: Any) -> None:
        """Start operations and wait until they are done."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._core.start_server_batch(operations, functools.partial(_set, done))
        if not (await done).success:
            # The caller has gone; the event that says so is on its way.
            raise asyncio.CancelledError


def _set(future: "asyncio.Future[Any]", event: Any) -> None:
    if not future.done():
        future.set_result(event)


def _sent(_event: Any) -> None:
    """There is nothing to do: core has sent it, or the caller has gone."""
