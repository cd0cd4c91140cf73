"""Log lines about slow and failed requests, without ids and at a limited rate.

In an outage every request fails. Only the first requests of each second get a line of their own,
and one more line counts the others.
"""

import asyncio
import logging

logger = logging.getLogger(__name__)

LINES_PER_SECOND = 20

#: The statuses of requests that failed through no fault of the caller.
FAILED = frozenset({"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})


class RequestLog:
    """Writes lines about requests. Must be used in a running event loop."""

    def __init__(self, slow_s: float | None = None) -> None:
        """Log failed requests, and all that take at least ``slow_s`` seconds unless it is None."""
        self.slow_s = float("inf") if slow_s is None else slow_s
        self._lines_left = LINES_PER_SECOND
        self._suppressed = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(
        self,
        method: str,
        status: str,
        seconds: float,
        *,
        waited_for: str | None = None,
        error: BaseException | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Write a line about a request, or only count it if the limit of this second is reached.

        Args:
            method: The name of the method that was called.
            status: The name of the gRPC status with which the request ended.
            seconds: The duration of the request.
            waited_for: The part of the system that the request waited for longest.
            error: The exception that ended the request.
            trace_id: The id of the request's trace.
        """
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._next_second)
        if not self._lines_left:
            self._suppressed += 1
            return
        self._lines_left -= 1
        fields = {
            "method": method,
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
            "waited_for": waited_for,
            "error": type(error).__name__ if error else None,
            "trace_id": trace_id,
        }
        is_bug = status == "INTERNAL"
        logger.log(
            logging.ERROR if is_bug else logging.WARNING,
            "request failed" if status in FAILED else "slow request",
            extra={"fields": {key: value for key, value in fields.items() if value is not None}},
            exc_info=error if is_bug else None,
        )

    def close(self) -> None:
        """Write the number of requests that got no line of their own."""
        if self._timer is not None:
            self._timer.cancel()
            self._next_second()

    def _next_second(self) -> None:
        if self._suppressed:
            logger.warning(
                "further requests were slow or failed",
                extra={"fields": {"count": self._suppressed}},
            )
        self._lines_left = LINES_PER_SECOND
        self._suppressed = 0
        self._timer = None
