"""Sends commands to Redis over one connection, with one round trip for all waiting commands.

Cancelling a call does not break the connection. While Redis is unavailable, calls fail
immediately, and a background task tries to reach Redis four times a second.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis import exceptions
from redis.asyncio import Redis

from query_service.errors import SeenStoreUnavailable

logger = logging.getLogger(__name__)

_PROBE_INTERVAL_S = 0.25
#: A round trip accepts no more calls once it has this many commands.
_MAX_COMMANDS_PER_TRIP = 64

#: The name of a command, followed by its arguments.
Command = tuple[str | bytes | int, ...]


class _Call(NamedTuple):
    commands: Sequence[Command]
    answers: asyncio.Future[list[Any]]


class PipeliningClient:
    """Sends idempotent commands to Redis. A command may be sent twice."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        """Limit each call to ``timeout_s`` seconds, including the time to connect."""
        self._redis = redis
        self._timeout_s = timeout_s
        self._waiting: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None
        #: The reason why Redis is unavailable, or None while it is available.
        self._unavailable_reason: str | None = None

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answer to each command.

        Raises:
            SeenStoreUnavailable: Redis is unavailable, too slow, or answers with an error. The
                message gives the reason and contains no part of a command.
        """
        if self._unavailable_reason:
            raise SeenStoreUnavailable(self._unavailable_reason)
        call = _Call(commands, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await call.answers
        except TimeoutError as error:
            raise SeenStoreUnavailable(_reason(error)) from None
        for answer in answers:
            if isinstance(answer, Exception):
                raise SeenStoreUnavailable(_reason(answer))
        return answers

    async def close(self) -> None:
        """Close the connection."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._redis.aclose()

    async def _run(self) -> None:
        """Make round trips until no call is waiting."""
        batch: list[_Call] = []
        try:
            while self._waiting:
                batch = self._next_batch()
                if not await self._send(batch):
                    await self._wait_until_available()
        finally:
            self._task = self._unavailable_reason = None
            # Any calls that remain here were interrupted by shutdown or by a bug.
            _fail((*batch, *self._waiting), "the connection is closed")
            self._waiting.clear()

    def _next_batch(self) -> list[_Call]:
        """Remove calls from the queue, and return those whose callers still wait."""
        batch: list[_Call] = []
        count = 0
        while self._waiting and count < _MAX_COMMANDS_PER_TRIP:
            call = self._waiting.popleft()
            if not call.answers.done():
                batch.append(call)
                count += len(call.commands)
        return batch

    async def _send(self, batch: list[_Call]) -> bool:
        """Make one round trip. Return False if Redis is unavailable."""
        commands = [command for call in batch for command in call.commands]
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._execute(commands)
        except (exceptions.RedisError, OSError) as error:
            _fail(batch, _reason(error))
            return False
        start = 0
        for call in batch:
            end = start + len(call.commands)
            if not call.answers.done():
                call.answers.set_result(answers[start:end])
            start = end
        return True

    async def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        # Return errors as answers. A raised error would contain the command and its ids.
        return list(await pipeline.execute(raise_on_error=False))

    async def _wait_until_available(self) -> None:
        """Send PINGs until Redis answers one, and fail all calls in the meantime."""
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._redis.ping()
                break
            except (exceptions.RedisError, OSError) as error:
                reason = _reason(error)
                if reason != self._unavailable_reason:
                    logger.warning(
                        "seen store: %s; requests for seen items fail until it is back", reason
                    )
                self._unavailable_reason = reason
                _fail(self._waiting, reason)
                self._waiting.clear()
            await asyncio.sleep(_PROBE_INTERVAL_S)
        if self._unavailable_reason:
            logger.info("seen store: Redis is available again")
        self._unavailable_reason = None


def _fail(calls: Iterable[_Call], reason: str) -> None:
    for call in calls:
        if not call.answers.done():
            call.answers.set_exception(SeenStoreUnavailable(reason))


def _reason(error: Exception) -> str:
    """Describe an error without quoting Redis, which may repeat a command or a password."""
    if isinstance(error, exceptions.AuthenticationError):
        return "Redis rejected the user name or password"
    if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
        return "Redis did not answer in time"
    if type(error) is exceptions.ConnectionError or isinstance(error, OSError):
        return "Redis cannot be reached"
    code = str(error).partition(" ")[0]
    kind = code if code.isalpha() and code.isupper() else type(error).__name__
    return f"Redis answered with the error {kind}"
