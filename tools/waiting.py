"""Wait for something that happens in another thread or process."""

import time
from collections.abc import Callable


def until(
    condition: Callable[[], object],
    timeout_s: float = 10.0,
    what: str = "",
    *,
    interval_s: float = 0.02,
) -> float:
    """Wait until a condition is true; return the seconds that this took.

    Args:
        condition: called again and again.
        timeout_s: how long to wait at most.
        what: describes the condition in the error.
        interval_s: the time between two calls.

    Raises:
        TimeoutError: the condition is still false after ``timeout_s``.
    """
    begun = time.perf_counter()
    while not condition():
        if time.perf_counter() - begun > timeout_s:
            detail = f": {what}" if what else ""
            raise TimeoutError(f"condition not met within {timeout_s:g} s{detail}")
        time.sleep(interval_s)
    return time.perf_counter() - begun
