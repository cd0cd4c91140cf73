"""Commands to Redis over one connection, those that come meanwhile joined into one round trip.

A caller who gives up leaves the connection to the others. While Redis is away calls fail at once,
and it is looked for here, four times a second.
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
#: No more calls join once there are so many commands.
_MANY = 64

#: The words of a command.
Command = tuple[str | bytes | int, ...]


class _Call(NamedTuple):
    commands: Sequence[Command]
    answers: asyncio.Future[list[Any]]


class PipeliningClient:
    """Sends commands, all of which must be such that they may be repeated."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        """``timeout_s``: the longest that a call may take, connecting included."""
        self._redis = redis
        self._timeout_s = timeout_s
        self._waiting: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None
        self._away: str | None = None  # why, while it is

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """The answer to each command.

        Raises:
            SeenStoreUnavailable: Redis is away, slow, or answers an error; the message says
                which, and holds nothing of a command.
        """
        if self._away:
            raise SeenStoreUnavailable(self._away)
        one = _Call(commands, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await one.answers
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
        """Until nobody waits."""
        joined: list[_Call] = []
        try:
            while self._waiting:
                joined = self._next()
                if not await self._ask(joined):
                    await self._until_it_answers()
        finally:
            self._task = self._away = None
            # Only at the end of the service, or by a bug, is anyone left.
            _fail((*joined, *self._waiting), "the connection is closed")
            self._waiting.clear()

    def _next(self) -> list[_Call]:
        joined: list[_Call] = []
        count = 0
        while self._waiting and count < _MANY:
            one = self._waiting.popleft()
            # Who has given up is not asked for.
            if not one.answers.done():
                joined.append(one)
                count += len(one.commands)
        return joined

    async def _ask(self, joined: list[_Call]) -> bool:
        """One round trip; whether there was an answer."""
        commands = [command for one in joined for command in one.commands]
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._sent(commands)
        except (exceptions.RedisError, OSError) as error:
            _fail(joined, _reason(error))
            return False
        start = 0
        for one in joined:
            end = start + len(one.commands)
            if not one.answers.done():
                one.answers.set_result(answers[start:end])
            start = end
        return True

    async def _sent(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        # With errors among the answers: raised, they would hold the command, ids and all.
        return list(await pipeline.execute(raise_on_error=False))

    async def _until_it_answers(self) -> None:
        """At once, perhaps: that one answer did not come need not mean that none does."""
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._redis.ping()
                break
            except (exceptions.RedisError, OSError) as error:
                reason = _reason(error)
                if reason != self._away:
                    logger.warning("seen store: %s; what needs it fails", reason)
                self._away = reason
                _fail(self._waiting, reason)
                self._waiting.clear()
            await asyncio.sleep(_PROBE_INTERVAL_S)
        if self._away:
            logger.info("seen store: Redis is back")
        self._away = None


def _fail(calls: Iterable[_Call], reason: str) -> None:
    for one in calls:
        if not one.answers.done():
            one.answers.set_exception(SeenStoreUnavailable(reason))


def _reason(error: Exception) -> str:
    """Why, without Redis's own words: it repeats what it does not understand, a password too."""
    if isinstance(error, exceptions.AuthenticationError):
        return "Redis refuses the user or the password"
    if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
        return "Redis does not answer in time"
    if type(error) is exceptions.ConnectionError or isinstance(error, OSError):
        return "Redis cannot be reached"
    code = str(error).partition(" ")[0]
    return f"Redis answers {code if code.isalpha() and code.isupper() else type(error).__name__}"
