"""A token bucket (https://en.wikipedia.org/wiki/Token_bucket) that holds one second's requests."""

import time
from collections.abc import Callable


class RateLimit:
    """Allows a number of requests per second, and as many at once after a pause."""

    def __init__(self, requests_per_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        """Start with a full bucket. It holds at least one request, even at a rate below 1."""
        self._rate = requests_per_s
        self._capacity = self._left = max(1.0, requests_per_s)
        self._now = now
        self._updated = now()

    def take(self) -> float:
        """Take one request and return 0, or return the seconds until one is available."""
        now = self._now()
        left = min(self._capacity, self._left + (now - self._updated) * self._rate)
        self._updated = now
        if left < 1:
            self._left = left
            return (1 - left) / self._rate
        self._left = left - 1
        return 0.0

    def charge(self, requests: int) -> None:
        """Take more requests, even more than are left. Later ones wait until that is repaid."""
        self._left -= requests
