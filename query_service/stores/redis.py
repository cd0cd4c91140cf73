"""Seen items in Redis: one set of item ids per user, under the key ``shortlist:seen:<user id>``.

Other programs may add to the sets with plain SADD.
"""

import sys
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

#: The time limit of a call in seconds. It includes the wait for the round trip in progress, because
#: all calls share one connection.
TIMEOUT_S = 0.5
_CONNECT_TIMEOUT_S = 0.25
#: A connection that was idle for this many seconds is tested with a PING before it is used.
_HEALTH_CHECK_INTERVAL_S = 10

#: The scripts join all items into one value. redis-py takes 3 us per list item to parse a reply,
#: and would block the shared event loop meanwhile. The separator does not occur in UTF-8.
_READ_SEEN_SCRIPT = """
if redis.call('SCARD', KEYS[1]) > tonumber(ARGV[1]) then return false end
return table.concat(redis.call('SMEMBERS', KEYS[1]), '\\255')
"""
_FILTER_SEEN_SCRIPT = """
local found = {}
for _, item in ipairs(ARGV) do
    if redis.call('SISMEMBER', KEYS[1], item) == 1 then found[#found + 1] = item end
end
return table.concat(found, '\\255')
"""
_SEPARATOR = b"\xff"

_INVALID_URL = (
    "--seen-store: not a valid Redis URL; use redis://[USER:PASSWORD@]HOST:PORT/DB[?OPTION=VALUE] "
    "or rediss://..., and percent-encode special characters in the user and the password"
)


class RedisSeenStore:
    """Reads and writes sets in Redis."""

    def __init__(self, url: str) -> None:
        """Prepare a connection to a Redis URL, which opens on first use.

        The URL may contain redis-py options.

        Raises:
            ValueError: The URL is not valid, or has an option that redis-py does not know.
        """
        pool = _pool(url)
        # Switch off redis-py's timeout, which starts a task for every command. The pipelining
        # client needs only one timer for a whole round trip.
        timeout_s: float = pool.connection_kwargs["socket_timeout"]
        pool.connection_kwargs["socket_timeout"] = None
        self._client = PipeliningClient(Redis.from_pool(pool), timeout_s)

    async def seen(self, user_id: str, limit: int | None = None) -> frozenset[bytes] | None:
        """Return the ids of the items that the user has seen, or None if more than ``limit``.

        Raises:
            SeenStoreUnavailable: Redis is unavailable, slow, or answers with an error.
        """
        max_items = sys.maxsize if limit is None else limit
        joined = await self._eval(_READ_SEEN_SCRIPT, user_id, max_items)
        return None if joined is None else _split(joined)

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> frozenset[bytes]:
        """Return those ``item_ids`` that the user has seen. Raises what :meth:`seen` raises."""
        return _split(await self._eval(_FILTER_SEEN_SCRIPT, user_id, *item_ids))

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Add pairs, and return the number of new ones. Raises what :meth:`seen` raises."""
        items_by_user: dict[str, list[str]] = defaultdict(list)
        for user_id, item_id in pairs:
            items_by_user[user_id].append(item_id)
        commands = [("SADD", _key(user_id), *ids) for user_id, ids in items_by_user.items()]
        return sum(await self._call(commands, "seen items cannot be recorded"))

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase all of a user's items. Raises what :meth:`seen` raises."""
        key = _key(user_id)
        commands: list[Command] = [("SCARD", key), ("UNLINK", key)]
        count, _ = await self._call(commands, "seen items cannot be erased")
        return [Erased("Redis", count)]

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _eval(self, script: str, user_id: str, *values: bytes | int) -> Any:
        """Run a script on a user's set, and return its value."""
        command: Command = ("EVAL", script, 1, _key(user_id), *values)
        [value] = await self._call([command], "seen items cannot be read")
        return value

    async def _call(self, commands: Sequence[Command], message_prefix: str) -> list[Any]:
        """Send commands and return their answers. Errors begin with ``message_prefix``."""
        try:
            return await self._client.call(commands)
        except SeenStoreUnavailable as error:
            raise SeenStoreUnavailable(f"{message_prefix}: {error}") from error


def _split(joined: bytes) -> frozenset[bytes]:
    return frozenset(joined.split(_SEPARATOR)) if joined else frozenset()


def _pool(url: str) -> ConnectionPool:
    try:
        path = urlsplit(url).path.removeprefix("/")
        # Without this check, redis-py would silently use database 0.
        if path and not path.isdecimal():
            raise ValueError(_INVALID_URL)
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            health_check_interval=_HEALTH_CHECK_INTERVAL_S,
            # Retry once, because a connection may break between two commands.
            retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
            protocol=2,
        )
        pool.connection_kwargs["decode_responses"] = False
        # Create a connection without opening it, which checks the options.
        pool.connection_class(**pool.connection_kwargs)
    # Hide the original messages, because they may contain a part of the password.
    except (TypeError, ValueError, exceptions.RedisError):
        raise ValueError(_INVALID_URL) from None
    return pool


def _key(user_id: str) -> str:
    return KEY_PREFIX + user_id


open_store = RedisSeenStore  # Called by stores.open_store().
