"""Lines about requests that were slow or failed: no ids, and never too many.

In an outage every request fails. Of each second so many are written, then how many more there
were.
"""

import asyncio
import logging

logger = logging.getLogger(__name__)

LINES_A_SECOND = 20

#: Statuses for which somebody here should look; the others are the caller's.
FAILED = frozenset({"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})


class RequestLog:
    """Writes about requests. Inside a running event loop."""

    def __init__(self, slow_s: float | None = None) -> None:
        """``slow_s``: how long a request is slow from; None: none is."""
        self.slow_s = float("inf") if slow_s is None else slow_s
        self._left = LINES_A_SECOND
        self._suppressed = 0
        self._second: asyncio.TimerHandle | None = None

    def write(
        self,
        method: str,
        status: str,
        seconds: float,
        *,
        waited_for: str | None,
        error: BaseException | None,
        trace_id: str | None,
    ) -> None:
        """One line, unless there were enough of them in this second."""
        if self._second is None:
            self._second = asyncio.get_running_loop().call_later(1.0, self._next_second)
        if not self._left:
            self._suppressed += 1
            return
        self._left -= 1
        failed = status in FAILED
        fields: dict[str, object] = {
            "method": method,
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
        }
        if waited_for:
            fields["waited_for"] = waited_for
        if error:
            fields["error"] = type(error).__name__
        if trace_id:
            fields["trace_id"] = trace_id
        bug = status == "INTERNAL"
        logger.log(
            logging.ERROR if bug else logging.WARNING,
            "request failed" if failed else "slow request",
            extra={"fields": fields},
            exc_info=error if bug else None,
        )

    def close(self) -> None:
        """Say what is left to be said."""
        if self._second is not None:
            self._second.cancel()
            self._next_second()

    def _next_second(self) -> None:
        if self._suppressed:
            logger.warning(
                "more requests were slow or failed", extra={"fields": {"count": self._suppressed}}
            )
        self._left, self._suppressed, self._second = LINES_A_SECOND, 0, None
