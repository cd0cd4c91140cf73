"""Logs the tracebacks of handlers that failed, at a limited rate: callers may cause failures."""

import logging
import time

logger = logging.getLogger(__name__)

LINES_PER_S = 20


class FailureLog:
    """Writes a limited number of tracebacks per second, then how many more there were."""

    def __init__(self) -> None:
        self._second_began_s = float("-inf")
        self._written = self._suppressed = 0

    def log(self, message: str) -> None:
        """Log the exception that is being handled, unless the limit is reached."""
        now_s = time.monotonic()
        if now_s >= self._second_began_s + 1.0:
            if self._suppressed:
                logger.error("%d more handlers failed", self._suppressed)
            self._second_began_s, self._written, self._suppressed = now_s, 0, 0
        if self._written == LINES_PER_S:
            self._suppressed += 1
            return
        self._written += 1
        logger.exception(message)


log = FailureLog().log
