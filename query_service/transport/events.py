"""A completion queue of gRPC core whose events are handled in the thread of an asyncio loop.

While there are events, the loop polls the queue itself, without waiting. When none are left, a
thread waits for the next event and wakes the loop with it. Therefore, there are no switches between
threads under load.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from grpc._cython.cygrpc import CompletionQueue, CompletionType

logger = logging.getLogger(__name__)

#: A callback for one operation. It is called with the event that reports the operation's end.
Tag = Callable[[Any], None]

_TIMEOUT = CompletionType.queue_timeout
_SHUTDOWN = CompletionType.queue_shutdown
_DO_NOT_WAIT = 0
#: The number of events to handle before the loop's other work gets its turn. It doubles while
#: events are left over, because an overloaded server has to refuse calls as they arrive. Otherwise
#: the calls would wait here until their deadlines.
_MIN_EVENTS, _MAX_EVENTS = 256, 4096


class EventQueue:
    """A completion queue that belongs to the running loop."""

    def __init__(self) -> None:
        self.core = CompletionQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._max_events = _MIN_EVENTS
        # The lock is held while the loop polls the queue itself.
        self._loop_is_polling = threading.Lock()
        self._waiter = threading.Thread(target=self._wait, name="grpc-events", daemon=True)
        self._waiter.start()

    async def close(self) -> None:
        """Handle the remaining events and stop. No further operation may be started."""
        self.core.shutdown()
        await self._closed
        self._waiter.join()

    def _wait(self) -> None:
        """Wait for one event whenever the loop is idle. This runs in a thread of its own."""
        done = False
        while not done:
            self._loop_is_polling.acquire()
            event = self.core.poll()
            done = event.completion_type == _SHUTDOWN
            self._loop.call_soon_threadsafe(self._wake_up, event)

    def _wake_up(self, event: Any) -> None:
        """Handle the event that the thread waited for, and those that arrived after it."""
        self._handle(event)
        if not self._closed.done():
            self._take_events()

    def _take_events(self) -> None:
        """Handle events until none is waiting, with pauses for the loop's other work.

        Then let the thread wait for the next event.
        """
        poll, handle = self.core.poll, self._handle
        for _ in range(self._max_events):
            event = poll(_DO_NOT_WAIT)
            if event.completion_type == _TIMEOUT:
                self._max_events = _MIN_EVENTS
                self._loop_is_polling.release()
                return
            handle(event)
            if self._closed.done():
                self._loop_is_polling.release()
                return
        self._max_events = min(2 * self._max_events, _MAX_EVENTS)
        self._loop.call_soon(self._take_events)

    def _handle(self, event: Any) -> None:
        if event.completion_type == _SHUTDOWN:
            if not self._closed.done():
                self._closed.set_result(None)
            return
        try:
            event.tag(event)
        # A bug that affects one call must not stop the server.
        except Exception:
            logger.exception("handling a gRPC event failed")
