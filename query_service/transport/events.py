"""gRPC core's completion queue, its events handled in the thread of an asyncio loop.

While there are events the loop takes them itself, one poll after another, without waiting. Only
when none is left does a thread wait for the next one and wake the loop with it: under load no
thread is ever switched to.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc

logger = logging.getLogger(__name__)

#: What every operation is started with, and called when it is done.
Tag = Callable[[Any], None]

_TIMEOUT = cygrpc.CompletionType.queue_timeout
_SHUTDOWN = cygrpc.CompletionType.queue_shutdown
_NO_WAITING = 0
#: So many events, and the loop's other work has its turn. Where more are left after it, the next
#: turn takes twice as many: under overload calls have to be refused as they come, or they wait here
#: until their deadlines.
_AT_ONCE, _MOST_AT_ONCE = 256, 4096


class EventQueue:
    """A completion queue that belongs to the running loop."""

    def __init__(self) -> None:
        self.core = cygrpc.CompletionQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._at_once = _AT_ONCE
        # Held while the loop takes the events itself.
        self._idle = threading.Lock()
        self._waiter = threading.Thread(target=self._wait, name="grpc-events", daemon=True)
        self._waiter.start()

    async def close(self) -> None:
        """Handle what is left and end; nothing may be started on the queue any more."""
        self.core.shutdown()
        await self._closed
        self._waiter.join()

    def _wait(self) -> None:
        """In a thread of its own: wait for one event each time that the loop is idle."""
        done = False
        while not done:
            self._idle.acquire()
            event = self.core.poll()
            done = event.completion_type == _SHUTDOWN
            self._loop.call_soon_threadsafe(self._woken, event)

    def _woken(self, event: Any) -> None:
        self._handle(event)
        if not self._closed.done():
            self._take()

    def _take(self) -> None:
        """Handle the events that are there; come again, or have the next one waited for."""
        poll, handle = self.core.poll, self._handle
        for _ in range(self._at_once):
            event = poll(_NO_WAITING)
            if event.completion_type == _TIMEOUT:
                self._at_once = _AT_ONCE
                self._idle.release()
                return
            handle(event)
            if self._closed.done():
                self._idle.release()
                return
        self._at_once = min(2 * self._at_once, _MOST_AT_ONCE)
        self._loop.call_soon(self._take)

    def _handle(self, event: Any) -> None:
        if event.completion_type == _SHUTDOWN:
            if not self._closed.done():
                self._closed.set_result(None)
            return
        try:
            event.tag(event)
        # One call's bug must not end the server.
        except Exception:
            logger.exception("an event was not handled")
