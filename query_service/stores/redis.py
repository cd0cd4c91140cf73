"""Seen items in Redis: of each user one set, ``shortlist:seen:<user id>``, of item ids.

Whoever knows what users do may write it with plain SADD.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from query_service.errors import SeenStoreUnavailable
from query_service.stores.base import Erased, Pair
from query_service.stores.redis_pipeline import Command, PipeliningClient

KEY_PREFIX = "shortlist:seen:"

#: For a call as a whole: waiting for the one before, connecting, sending, the answer.
TIMEOUT_S = 0.5
_CONNECT_TIMEOUT_S = 0.25
#: A connection that was idle for so long is tried with a PING before it is used.
_HEALTH_CHECK_S = 10

#: A user's items as one value: redis-py takes 3 us to read each of them from an answer to
#: SMEMBERS, in the loop that all requests share. The byte between two ids is none of UTF-8's.
_ALL = "return table.concat(redis.call('SMEMBERS', KEYS[1]), '\\255')"
_IF_FEW = f"if redis.call('SCARD', KEYS[1]) > tonumber(ARGV[1]) then return false end {_ALL}"
_AMONG = """
local found = {}
for _, item in ipairs(ARGV) do
    if redis.call('SISMEMBER', KEYS[1], item) == 1 then found[#found + 1] = item end
end
return table.concat(found, '\\255')
"""
_SEPARATOR = b"\xff"

_URL = (
    "--seen-store: not a URL of Redis as redis://[USER:PASSWORD@]HOST:PORT/DB[?OPTION=VALUE], with "
    "what is special in user and password percent-encoded"
)


class RedisSeenStore:
    """Sets in Redis."""

    def __init__(self, url: str) -> None:
        """``url``: redis:// or rediss://, with redis-py's options. Connects when asked.

        Raises:
            ValueError: it is no such URL, or has an option that redis-py does not know.
        """
        pool = _pool(url)
        # redis-py would make a task of every command to hold it to this; one timer is enough.
        timeout_s: float = pool.connection_kwargs["socket_timeout"]
        pool.connection_kwargs["socket_timeout"] = None
        self._client = PipeliningClient(Redis.from_pool(pool), timeout_s)

    async def seen(self, user_id: str) -> frozenset[bytes]:
        """What the user has seen; empty for an unknown one.

        Raises:
            SeenStoreUnavailable: Redis is away, slow, or answers an error.
        """
        return _split(await self._eval(_ALL, user_id))

    async def seen_if_few(self, user_id: str, most: int) -> frozenset[bytes] | None:
        """The same; None where there are more than ``most``."""
        joined = await self._eval(_IF_FEW, user_id, most)
        return None if joined is None else _split(joined)

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> frozenset[bytes]:
        """Those of the ids that the user has seen."""
        return _split(await self._eval(_AMONG, user_id, *item_ids))

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Add what was seen; how many of the pairs were not there.

        Raises:
            SeenStoreUnavailable: Redis is away, slow, or answers an error.
        """
        items: dict[str, list[str]] = defaultdict(list)
        for user_id, item_id in pairs:
            items[user_id].append(item_id)
        commands = [("SADD", _key(user_id), *item_ids) for user_id, item_ids in items.items()]
        return sum(await self._call("recorded", commands))

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase what the user has seen.

        Raises:
            SeenStoreUnavailable: Redis is away, slow, or answers an error.
        """
        key = _key(user_id)
        items, _ = await self._call("erased", [("SCARD", key), ("UNLINK", key)])
        return [Erased("Redis", items)]

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _eval(self, script: str, user_id: str, *values: bytes | int) -> Any:
        [joined] = await self._call("read", [("EVAL", script, 1, _key(user_id), *values)])
        return joined

    async def _call(self, done: str, commands: Sequence[Command]) -> list[Any]:
        """The answers; ``done``: what cannot be done where there are none."""
        try:
            return await self._client.call(commands)
        except SeenStoreUnavailable as error:
            raise SeenStoreUnavailable(f"seen items cannot be {done}: {error}") from error


def _split(joined: bytes) -> frozenset[bytes]:
    return frozenset(joined.split(_SEPARATOR)) if joined else frozenset()


def _pool(url: str) -> ConnectionPool:
    try:
        path = urlsplit(url).path.removeprefix("/")
        # redis-py would use database 0.
        if path and not path.isdecimal():
            raise ValueError(_URL)
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            health_check_interval=_HEALTH_CHECK_S,
            # A connection may break between two commands.
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
