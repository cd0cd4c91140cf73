"""A token bucket (https://en.wikipedia.org/wiki/Token_bucket) that holds one second's requests."""

import time
from collections.abc import Callable


class RateLimit:
    """So many requests a second; after a pause a second's worth of them at once."""

    def __init__(self, requests_per_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        """Full at first. Of less than one a second it still holds one."""
        self._rate = requests_per_s
        self._most = self._left = max(1.0, requests_per_s)
        self._now = now
        self._at = now()

    def take(self) -> float:
        """Take one: 0; or, where none is left, the seconds until there is one again."""
        now = self._now()
        left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if left < 1:
            self._left = left
            return (1 - left) / self._rate
        self._left = left - 1
        return 0.0

    def charge(self, requests: int) -> None:
        """Take more, even more than are left: later requests wait until that is made up for."""
        self._left -= requests
