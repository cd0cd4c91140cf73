"""Lets a call in by its token and within its limit, or says why not."""

import asyncio
import logging
from collections.abc import Iterable

from query_service.errors import RateLimited, Unauthenticated, UnusableFile
from rpc import tokens
from rpc.pem import read_file
from rpc.rate_limit import RateLimit
from rpc.tokens import Key

logger = logging.getLogger(__name__)

#: Between two looks at the file: a token that is taken out is refused after that and a moment.
INTERVAL_S = 1.0

_HEADER = "authorization"
_SCHEME = "bearer"
#: Of one token's header: more come only from who makes them up.
_SPELLINGS = 4


class Caller:
    """Who has been let in."""

    def __init__(self, key: Key, workers: int) -> None:
        self.key = key
        self._limit = RateLimit(key.requests_per_s / workers) if key.requests_per_s else None
        #: Since the log said so.
        self.refused = 0

    def take(self) -> None:
        """Count one request.

        Raises:
            RateLimited: that is more than the caller may ask.
        """
        if self._limit and (wait_s := self._limit.take()):
            self.refused += 1
            raise RateLimited(
                f"{self.key.name} may ask {self.key.requests_per_s:g} requests a second", wait_s
            )

    def charge(self, requests: int) -> None:
        """Count more of them, all in one call that has been let in."""
        if self._limit:
            self._limit.charge(requests)


class Guard:
    """Knows the tokens of a file as it was when it was good last."""

    def __init__(self, path: str, workers: int = 1) -> None:
        """``workers`` processes share the limits evenly.

        Raises:
            UnusableFile: there is no such file, or no token in it.
        """
        self._path = path
        self._workers = workers
        self._data = read_file(path)
        self._complaint = ""
        self._refused = 0
        self._callers: dict[Key, Caller] = {}
        # By the whole header, as it came with a good token: to hash it anew and compare it with
        # all keys would be most of the cost.
        self._by_header: dict[str | bytes, Caller] = {}
        self._take(tokens.parse(self._data, path))

    def admit(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who calls, with one request counted.

        Raises:
            Unauthenticated: there is no token, or none that holds.
            RateLimited: that is more than the caller may ask.
        """
        for name, value in metadata:
            if name == _HEADER:
                caller = self._by_header.get(value) or self._look_up(value)
                if caller:
                    caller.take()
                    return caller
                break
        self._refused += 1
        raise Unauthenticated("this needs a valid token, as metadata authorization: Bearer TOKEN")

    async def watch(self) -> None:
        """Look at the file again and again, and log what was refused, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.look()
            self._log_refused()

    async def look(self) -> None:
        """Take what is new in the file; where it cannot be used, what there was stays."""
        try:
            # Elsewhere: a disk may be slow.
            data = await asyncio.to_thread(read_file, self._path)
            if data == self._data:
                self._complaint = ""
                return
            keys = tokens.parse(data, self._path)
        except UnusableFile as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.error("tokens stay as they were: %s", error)
            return
        self._data, self._complaint = data, ""
        self._take(keys)
        logger.info("tokens are now those of %s", ", ".join(key.name for key in keys))

    def _log_refused(self) -> None:
        """One line for a kind of refusal, however many there were."""
        if self._refused:
            logger.warning("%d calls without a valid token were refused", self._refused)
            self._refused = 0
        for key, caller in self._callers.items():
            if caller.refused:
                logger.warning(
                    "%d calls of %s were refused: it may ask %g requests a second",
                    *(caller.refused, key.name, key.requests_per_s),
                )
                caller.refused = 0

    def _take(self, keys: list[Key]) -> None:
        # Those that stay keep what is left of their limits.
        self._callers = {key: self._callers.get(key) or Caller(key, self._workers) for key in keys}
        self._by_header = {}

    def _look_up(self, header: str | bytes) -> Caller | None:
        # Only names that end with -bin have bytes.
        assert isinstance(header, str)
        scheme, _, token = header.partition(" ")
        if scheme.lower() != _SCHEME:
            return None
        key = tokens.matching(self._callers, token.strip())
        if key is None:
            return None
        if len(self._by_header) >= _SPELLINGS * len(self._callers):
            self._by_header.clear()
        self._by_header[header] = self._callers[key]
        return self._callers[key]
