"""A worker process of :mod:`query_service.process.supervisor`, from the fork to its end."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from query_service.errors import StartError

logger = logging.getLogger(__name__)

#: The first byte of a report if the worker listens. Other bytes are the reason why it ended.
READY = b"\0"


def run(work: Callable[[Callable[[], None]], None], lifeline: int, report: int) -> NoReturn:
    """Run ``work`` in a forked process, and end the process when it returns.

    Args:
        work: Takes a function to call when the worker is ready.
        lifeline: The file descriptor of the pipe that closes when the worker must drain.
        report: The file descriptor of the pipe to write to when the worker is ready or has failed.
    """
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # A terminal sends Ctrl-C to all of its processes, but only the supervisor starts a drain.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        threading.Thread(target=_drain_on_close, args=(lifeline,), daemon=True).start()
        work(lambda: _write(report, READY))
        status = 0
    except (StartError, ValueError) as error:
        _write(report, str(error).encode(errors="replace"))
    except Exception:
        logger.exception("a worker failed")
    finally:
        sys.stdout.flush()
        # Never return to the supervisor's code, which the fork has copied.
        os._exit(status)


def _drain_on_close(lifeline: int) -> None:
    """Send this process SIGTERM when the supervisor closes the lifeline or dies."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _write(report: int, data: bytes) -> None:
    # If the supervisor has died, nobody reads the report, and the lifeline ends this process.
    with contextlib.suppress(BrokenPipeError):
        os.write(report, data)
