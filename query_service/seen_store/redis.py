"""Seen items in Redis: of each user one set, ``shortlist:seen:<user id>``, of item ids.

Whoever knows what users do may write it with plain SADD.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from query_service.errors import SeenStoreUnavailable
from query_service.seen_store.store import Erased, Pair

logger = logging.getLogger(__name__)

KEY_PREFIX = "shortlist:seen:"

#: For a command as a whole: waiting for a connection, making it, sending, the answer.
TIMEOUT_S = 0.5
_CONNECT_TIMEOUT_S = 0.25
_CONNECTIONS = 16
#: A connection that was idle for so long is tried with a PING before it is used.
_HEALTH_CHECK_S = 10
#: While Redis is away, how often it is looked for.
_PROBE_INTERVAL_S = 0.25

#: A user's items as one value: redis-py takes 3 us to read a reply of its own for each of them,
#: in the loop that all requests share. The byte between two ids is none of UTF-8's.
_JOINED = "return table.concat(redis.call('SMEMBERS', KEYS[1]), '\\255')"
_SEPARATOR = b"\xff"

_URL = (
    "--seen-store: not a URL of Redis as redis://[USER:PASSWORD@]HOST:PORT/DB[?OPTION=VALUE], with "
    "what is special in user and password percent-encoded"
)

T = TypeVar("T")


class RedisSeenStore:
    """Asks over a few connections. While Redis is away it fails at once; one task looks for it."""

    def __init__(self, url: str) -> None:
        """``url``: redis:// or rediss://, with redis-py's options. Connects when asked.

        Raises:
            ValueError: it is no such URL, or has an option that redis-py does not know.
        """
        pool = _pool(url)
        # redis-py would make a task of every command to hold it to this; here one timer does it.
        self._timeout_s: float = pool.connection_kwargs["socket_timeout"] or TIMEOUT_S
        pool.connection_kwargs["socket_timeout"] = None
        self._redis: Redis = Redis.from_pool(pool)
        self._away: str | None = None  # why, while it is
        self._probing: asyncio.Task[None] | None = None

    async def seen(self, user_id: str) -> frozenset[bytes]:
        """What the user has seen; empty for an unknown one.

        Raises:
            SeenStoreUnavailable: Redis is away, slow, or answers an error.
        """
        read = partial(self._redis.eval, _JOINED, 1, _key(user_id))
        joined: bytes = await self._asked("read", read)
        return frozenset(joined.split(_SEPARATOR)) if joined else frozenset()

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Add what was seen; how many of the pairs were not there.

        Raises:
            SeenStoreUnavailable: Redis is away, slow, or answers an error.
        """
        items: dict[str, list[str]] = defaultdict(list)
        for user_id, item_id in pairs:
            items[user_id].append(item_id)
        pipeline = self._redis.pipeline(transaction=False)
        for user_id, item_ids in items.items():
            pipeline.sadd(_key(user_id), *item_ids)
        return sum(await self._all_asked("recorded", pipeline))

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase what the user has seen.

        Raises:
            SeenStoreUnavailable: Redis is away, slow, or answers an error.
        """
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.scard(_key(user_id))
        pipeline.unlink(_key(user_id))
        erased, _ = await self._all_asked("erased", pipeline)
        return [Erased("Redis", erased)]

    async def close(self) -> None:
        """Close the connections."""
        if self._probing:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await self._redis.aclose()

    async def _all_asked(self, done: str, pipeline: Any) -> list[int]:
        # redis-py would put the command, ids and all, into the message of an error.
        answers = await self._asked(done, partial(pipeline.execute, raise_on_error=False))
        for answer in answers:
            if isinstance(answer, exceptions.RedisError):
                raise _unavailable(done, _reason(answer))
        return list(answers)

    async def _asked(self, done: str, command: Callable[[], Awaitable[T]]) -> T:
        """The answer to a command; ``done``: what cannot be done where there is none."""
        if self._away:
            raise _unavailable(done, self._away)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command()
        except asyncio.CancelledError:
            # By the request's own deadline, perhaps: who knows how Redis is?
            self._probe()
            raise
        # None of their messages goes on: Redis repeats what it does not understand, a password too.
        except (exceptions.RedisError, OSError) as error:
            if isinstance(error, exceptions.ConnectionError):
                self._is_away(_reason(error))
            if not isinstance(error, exceptions.ResponseError):
                self._probe()
            raise _unavailable(done, _reason(error)) from None

    def _probe(self) -> None:
        if self._probing is None:
            self._probing = asyncio.create_task(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        try:
            while not await self._answers():
                await asyncio.sleep(_PROBE_INTERVAL_S)
            if self._away:
                logger.info("seen store: Redis is back")
        finally:
            self._away = self._probing = None

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.ping()
        except (exceptions.RedisError, OSError) as error:
            self._is_away(_reason(error))
            return False
        return True

    def _is_away(self, reason: str) -> None:
        if not self._away:
            logger.warning("seen store: %s; requests that need seen items fail", reason)
        self._away = reason


def _pool(url: str) -> BlockingConnectionPool:
    try:
        path = urlsplit(url).path.removeprefix("/")
        # redis-py would use database 0.
        if path and not path.isdecimal():
            raise ValueError(_URL)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            health_check_interval=_HEALTH_CHECK_S,
            # A connection may break between two commands; all of ours may be repeated.
            retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
            protocol=2,
        )
        pool.connection_kwargs["decode_responses"] = False
        # Options are looked at only here.
        pool.connection_class(**pool.connection_kwargs)
    # Messages that may hold a part of the password.
    except (TypeError, ValueError, exceptions.RedisError):
        raise ValueError(_URL) from None
    return pool


def _key(user_id: str) -> str:
    return KEY_PREFIX + user_id


def _unavailable(done: str, reason: str) -> SeenStoreUnavailable:
    return SeenStoreUnavailable(f"seen items cannot be {done}: {reason}")


def _reason(error: Exception) -> str:
    """Why, in words that hold nothing of a command."""
    if isinstance(error, exceptions.AuthenticationError):
        return "Redis refuses the user or the password"
    if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
        return "Redis does not answer in time"
    if type(error) is exceptions.ConnectionError or isinstance(error, OSError):
        return "Redis cannot be reached"
    code = str(error).partition(" ")[0]
    return f"Redis answers {code if code.isalpha() and code.isupper() else type(error).__name__}"
