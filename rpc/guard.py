"""Admits or refuses calls based on their token and rate limit, and reloads the token file."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from rpc import tokens
from rpc.errors import RateLimited, Unauthenticated, UnusableFile
from rpc.pem import read_file
from rpc.tokens import TokenEntry

logger = logging.getLogger(__name__)

#: The token file is read this often, so a removed token is refused after about this time at most.
RELOAD_INTERVAL_S = 1.0

_HEADER = "authorization"
_SCHEME = "bearer"
#: The number of headers to cache per token. Only a caller that varies the header, for example with
#: extra spaces, needs more.
_HEADERS_PER_TOKEN = 4


class RateLimit:
    """A rate limit that allows one second's worth of requests to arrive in one burst.

    It is a token bucket (https://en.wikipedia.org/wiki/Token_bucket) whose capacity is one second's
    worth of requests, and never less than one.
    """

    def __init__(self, requests_per_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = requests_per_s
        self._capacity = self._left = max(1.0, requests_per_s)
        self._now = now
        self._updated = now()

    def take(self) -> float:
        """Take one request and return 0, or return the seconds until one is available."""
        now = self._now()
        gained = (now - self._updated) * self._rate
        self._left = min(self._capacity, self._left + gained)
        self._updated = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0

    def charge(self, requests: int) -> None:
        """Deduct more requests. A negative balance must be made up before the next is admitted."""
        self._left -= requests


class Caller:
    """A caller in the token file, and the state of its rate limit.

    Attributes:
        entry: The caller's entry in the token file.
        refused_calls: The number of calls refused since the last log line about them.
    """

    def __init__(self, entry: TokenEntry, workers: int) -> None:
        self.entry = entry
        self._limit = RateLimit(entry.requests_per_s / workers) if entry.requests_per_s else None
        self.refused_calls = 0

    def take(self) -> None:
        """Count one request.

        Raises:
            RateLimited: The caller has used up its rate limit.
        """
        if self._limit and (wait_s := self._limit.take()):
            self.refused_calls += 1
            name, rate = self.entry.name, self.entry.requests_per_s
            raise RateLimited(f"{name} is limited to {rate:g} requests per second", wait_s)

    def charge(self, requests: int) -> None:
        """Count the other requests of a batch whose call has been admitted."""
        if self._limit:
            self._limit.charge(requests)


class Guard:
    """Admits the callers in a token file. An invalid file does not replace the last valid one."""

    def __init__(self, path: str, workers: int = 1) -> None:
        """Read the file. ``workers`` is the number of processes that share each rate limit.

        Raises:
            UnusableFile: The file cannot be read, is malformed, or holds no token.
        """
        self._path = path
        self._workers = workers
        self._data = read_file(path)
        self._last_error = ""
        self._unauthenticated_calls = 0
        self._callers: dict[TokenEntry, Caller] = {}
        # Caches callers by the full header value. Without the cache, hashing a token and comparing
        # the hash with all entries would be most of the cost of admitting a call.
        self._callers_by_header: dict[str | bytes, Caller] = {}
        self._use(tokens.parse(self._data, path))

    def admit(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return the caller that a call's metadata identifies, and count one request.

        Raises:
            Unauthenticated: The metadata contains no valid token.
            RateLimited: The caller has used up its rate limit.
        """
        for name, value in metadata:
            if name == _HEADER:
                caller = self._callers_by_header.get(value) or self._look_up(value)
                if caller:
                    caller.take()
                    return caller
                break
        self._unauthenticated_calls += 1
        raise Unauthenticated(
            "a valid token is required in the metadata, as authorization: Bearer TOKEN"
        )

    async def watch(self) -> None:
        """Reload the file and log refusals once per interval until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_INTERVAL_S)
            await self.reload()
            self._log_refusals()

    async def reload(self) -> None:
        """Use the tokens that are now in the file, or keep the previous ones if it is invalid."""
        try:
            # Read the file in a thread, because a disk may be slow.
            data = await asyncio.to_thread(read_file, self._path)
            if data == self._data:
                self._last_error = ""
                return
            entries = tokens.parse(data, self._path)
        except UnusableFile as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                logger.error("cannot reload the tokens, so the previous ones stay valid: %s", error)
            return
        self._data = data
        self._last_error = ""
        self._use(entries)
        logger.info("loaded the tokens of %s", ", ".join(entry.name for entry in entries))

    def _log_refusals(self) -> None:
        """Log one line for calls without a valid token, and one per caller over its limit."""
        if count := self._unauthenticated_calls:
            logger.warning("%d calls without a valid token were refused", count)
            self._unauthenticated_calls = 0
        for entry, caller in self._callers.items():
            if caller.refused_calls:
                logger.warning(
                    "%d calls from %s were refused: its limit is %g requests per second",
                    caller.refused_calls,
                    entry.name,
                    entry.requests_per_s,
                )
                caller.refused_calls = 0

    def _use(self, entries: list[TokenEntry]) -> None:
        """Admit the callers with these entries from now on, and no others."""
        # Callers whose entries are unchanged keep the state of their rate limits.
        old = self._callers
        self._callers = {entry: old.get(entry) or Caller(entry, self._workers) for entry in entries}
        self._callers_by_header = {}

    def _look_up(self, header: str | bytes) -> Caller | None:
        """Return the caller whose token is in an authorization header, or None."""
        # In gRPC metadata, only names that end with -bin have values of type bytes.
        assert isinstance(header, str)
        scheme, _, token = header.partition(" ")
        if scheme.lower() != _SCHEME:
            return None
        entry = tokens.find_entry(self._callers, token.strip())
        if entry is None:
            return None
        if len(self._callers_by_header) >= _HEADERS_PER_TOKEN * len(self._callers):
            self._callers_by_header.clear()
        self._callers_by_header[header] = self._callers[entry]
        return self._callers[entry]
