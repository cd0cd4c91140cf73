"""Tracebacks of handlers that failed: never too many, whoever can make them fail."""

import logging
import time

logger = logging.getLogger(__name__)

MOST_A_SECOND = 20


class FailureLog:
    """Of each second so many, and with the next one how many more there were."""

    def __init__(self) -> None:
        self._began_s = float("-inf")
        self._written = self._suppressed = 0

    def log(self, message: str) -> None:
        """Write the exception that is being handled."""
        now_s = time.monotonic()
        if now_s >= self._began_s + 1.0:
            if self._suppressed:
                logger.error("%d more handlers failed", self._suppressed)
            self._began_s, self._written, self._suppressed = now_s, 0, 0
        if self._written == MOST_A_SECOND:
            self._suppressed += 1
            return
        self._written += 1
        logger.exception(message)


log = FailureLog().log
