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

#: What a report begins with once the worker listens; all else is why it ended.
READY = b"\0"


def run(work: Callable[[Callable[[], None]], None], leash: int, report: int) -> NoReturn:
    """Call ``work`` with what to call when it is ready, and end the process with its end.

    ``leash`` and ``report`` are the worker's ends of the supervisor's pipes.
    """
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Ctrl-C goes to every process of a terminal; here the parent says when to drain.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        threading.Thread(target=_drain_when_let_go, args=(leash,), daemon=True).start()
        work(lambda: _say(report, READY))
        status = 0
    except (StartError, ValueError) as error:
        _say(report, str(error).encode(errors="replace"))
    except Exception:
        logger.exception("a worker failed")
    finally:
        sys.stdout.flush()
        # Not back into what the parent was doing.
        os._exit(status)


def _drain_when_let_go(leash: int) -> None:
    os.read(leash, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _say(report: int, what: bytes) -> None:
    # A parent that has died hears nothing; the leash tells.
    with contextlib.suppress(BrokenPipeError):
        os.write(report, what)
