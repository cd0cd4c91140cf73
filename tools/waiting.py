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
    """Wait until a condition is true; return the waiting time in seconds.

    Args:
        condition: called repeatedly until it returns a true value.
        timeout_s: the maximum waiting time.
        what: a description of the condition for the error message.
        interval_s: the time between two calls of ``condition``.

    Raises:
        TimeoutError: the condition is still false after ``timeout_s``.
    """
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > timeout_s:
            detail = f": {what}" if what else ""
            raise TimeoutError(f"condition not met within {timeout_s:g} s{detail}")
        time.sleep(interval_s)
    return time.perf_counter() - start
