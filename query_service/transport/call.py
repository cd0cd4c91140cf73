"""One call: the context that its handler receives, and the messages and status that it sends."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc._cython.cygrpc import (
    ReceiveCloseOnServerOperation,
    ReceiveMessageOperation,
    SendInitialMetadataOperation,
    SendMessageOperation,
    SendStatusFromServerOperation,
)

from rpc.guard import RateLimit

logger = logging.getLogger(__name__)

LOGGED_FAILURES_PER_S = 20
#: Limits the rate of logged tracebacks, because callers can cause failures.
_log_limit = RateLimit(LOGGED_FAILURES_PER_S)

_NO_FLAGS = 0
#: gRPC core reports a deadline 292 billion years away for a call that has none. Any deadline
#: beyond this one, which is 3,000 years away, means that there is none.
_MAX_DEADLINE_S = 1e11
_NO_METADATA: tuple[tuple[str, Any], ...] = ()
#: Two operations that all calls can share, because they hold no per-call state: one sends empty
#: metadata, and nobody reads the result of the other.
_SEND_INITIAL_METADATA = SendInitialMetadataOperation(_NO_METADATA, _NO_FLAGS)
_UNREAD_CLOSE = ReceiveCloseOnServerOperation(_NO_FLAGS)

#: A ``grpc.RpcMethodHandler``, or None if there is no such method. A handler may have a method
#: ``refusal``, which returns None to admit the next call, or the status with which to refuse it
#: without reading the request.
Handler = Any


class Call:
    """One call, from its request to its status.

    It has the methods of ``grpc.aio.ServicerContext`` that our handlers use. The pending operation
    that reports the end of the call refers to this object, which therefore lives until then.
    """

    def __init__(self, event: Any, handler: Handler) -> None:
        """Start to handle the call that a request-call event delivers."""
        self._core = event.call
        self._deadline_s: float = event.call_details.deadline
        self._metadata = event.invocation_metadata
        self._handler = handler
        self._trailing_metadata = _NO_METADATA
        self._task: asyncio.Task[None] | None = None
        self._initial_metadata_sent = False
        self._ended = False
        refusal = getattr(handler, "refusal", _admit)()
        if handler is None:
            self._end(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", _UNREAD_CLOSE)
        elif refusal:
            code, details = refusal
            self._end(code, details, _UNREAD_CLOSE)
        else:
            self._core.start_server_batch(
                (ReceiveCloseOnServerOperation(_NO_FLAGS),), self._on_close
            )
            if handler.request_streaming:
                self._run(self._messages())
            else:
                self._receive(self._on_request)

    # The methods that handlers call on their context.

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline, or None if there is none."""
        if self._deadline_s > _MAX_DEADLINE_S:
            return None
        return max(0.0, self._deadline_s - time.time())

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Return the caller's metadata."""
        return self._metadata  # type: ignore[no-any-return]

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call with a status. Raises ``grpc.aio.AbortError``."""
        self._trailing_metadata = tuple(trailing_metadata)
        self._end(code, details)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with a ``grpc.Status``. Raises ``grpc.aio.AbortError``."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    # Running the handler.

    def _on_request(self, event: Any) -> None:
        """Run the handler with the request message that has arrived."""
        data = event.batch_operations[0].message()
        if data is not None:
            self._run(data)
        elif event.success:
            # The caller sent no message, or is gone and does not read this status.
            self._end(grpc.StatusCode.INTERNAL, "the call has no request message")

    def _run(self, request: bytes | AsyncIterator[Any]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: bytes | AsyncIterator[Any]) -> None:
        """Run the handler, and send its messages and the status."""
        handler = self._handler
        try:
            if isinstance(request, bytes):
                request = await self._deserialize(request)
            if handler.response_streaming:
                answers = (handler.unary_stream or handler.stream_stream)(request, self)
                async for message in answers:
                    send = SendMessageOperation(self._serialize(message), _NO_FLAGS)
                    await self._batch(*self._take_initial_metadata(), send)
                self._end(grpc.StatusCode.OK, "")
            else:
                data = self._serialize(await handler.unary_unary(request, self))
                self._end(grpc.StatusCode.OK, "", SendMessageOperation(data, _NO_FLAGS))
        except (grpc.aio.AbortError, asyncio.CancelledError):
            pass
        # Any other exception is a bug in the handler. Only the log gets the details.
        except Exception:
            if not _log_limit.take():
                logger.exception("a handler failed")
            self._end(grpc.StatusCode.UNKNOWN, "internal error")

    async def _messages(self) -> AsyncIterator[Any]:
        """Yield the messages of a request stream."""
        while True:
            received: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._receive(functools.partial(_set_result, received))
            data = (await received).batch_operations[0].message()
            if data is None:
                return
            yield await self._deserialize(data)

    async def _deserialize(self, data: bytes) -> Any:
        """Return the parsed message, or end the call without logging if it is malformed."""
        deserialize = self._handler.request_deserializer
        try:
            return deserialize(data) if deserialize else data
        except Exception:  # noqa: BLE001
            # grpcio's own servers send this message.
            await self.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")

    def _on_close(self, event: Any) -> None:
        """Handle the end of the call. Stop the handler if the call was cancelled or timed out."""
        if event.batch_operations[0].cancelled():
            self._ended = True
            if self._task is not None:
                self._task.cancel()

    # Operations on the core call.

    def _serialize(self, message: Any) -> bytes:
        serialize = self._handler.response_serializer
        return serialize(message) if serialize else message  # type: ignore[no-any-return]

    def _receive(self, tag: Callable[[Any], None]) -> None:
        self._core.start_server_batch((ReceiveMessageOperation(_NO_FLAGS),), tag)

    def _end(self, code: grpc.StatusCode, details: str, *operations: Any) -> None:
        """End the call with a status, unless it has ended, in one batch with other operations."""
        if self._ended:
            return
        self._ended = True
        status = SendStatusFromServerOperation(
            self._trailing_metadata, code.value[0], details.encode(), _NO_FLAGS
        )
        self._core.start_server_batch(
            (*self._take_initial_metadata(), *operations, status), _ignore
        )

    def _take_initial_metadata(self) -> tuple[Any, ...]:
        """Return the operation that sends the initial metadata, or () if it was sent before."""
        if self._initial_metadata_sent:
            return ()
        self._initial_metadata_sent = True
        return (_SEND_INITIAL_METADATA,)

    async def _batch(self, *operations: Any) -> None:
        """Start operations and wait until they have completed."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._core.start_server_batch(operations, functools.partial(_set_result, done))
        if not (await done).success:
            # The caller is gone. The event that reports this is still to come.
            raise asyncio.CancelledError


def _admit() -> None:
    """Admit a call to a handler without a method ``refusal``."""


def _set_result(future: "asyncio.Future[Any]", event: Any) -> None:
    if not future.done():
        future.set_result(event)


def _ignore(_event: Any) -> None:
    """Do nothing, because core has sent everything or the caller is gone."""
