"""Observes requests and answers for metrics, traces and the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from query_service.core.query import Candidates
from query_service.telemetry.metrics import MethodMetrics, Metrics
from query_service.telemetry.request_log import FAILED, RequestLog
from rpc.errors import RateLimited

if TYPE_CHECKING:
    from query_service.telemetry.spans import Tracer

#: The request that the current task handles.
current_request: ContextVar[ObservedRequest | None] = ContextVar("current_request", default=None)
#: Returns the time in seconds since an arbitrary moment, for measuring durations.
now_s = time.perf_counter


class Observer:
    """The telemetry of one process.

    Attributes:
        spans: The spans of requests that wait for the model, by the ``id()`` of their query. It
            stays empty if no spans are exported.
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        tracer: Tracer | None = None,
        log: RequestLog | None = None,
    ) -> None:
        """Combine the kinds of telemetry. By default, metrics are kept and nothing is exported."""
        self.metrics = metrics or Metrics()
        self.tracer = tracer
        self.log = log
        self.spans: dict[int, Any] = {}

    def record_answer(self, candidates: Candidates) -> None:
        """Count the answer to a query."""
        metrics = self.metrics
        metrics.answers[candidates.source.value].add()
        metrics.candidates.observe(len(candidates.item_ids))
        metrics.excluded.observe(candidates.excluded)
        if candidates.fetches > 1:
            metrics.refetches.add(candidates.fetches - 1)
        if candidates.fallback:
            metrics.fallbacks.add()

    def record_health(self, serving: bool, version: int | None) -> None:
        """Record whether the model server is ready, and the version of its model."""
        self.metrics.serving.set(serving)
        self.metrics.model_version.set(version or 0)

    async def close(self) -> None:
        """Write the remaining log lines and export the remaining spans."""
        if self.log:
            self.log.close()
        if self.tracer:
            await self.tracer.close()


class ObservedMethod:
    """Observes the requests of one method. It declares metrics, so create it at startup.

    ``outcome`` takes the exception that ended a request and the context of its call, and returns
    the name of the status that the caller gets.
    """

    def __init__(
        self,
        observer: Observer,
        service: str,
        name: str,
        outcome: Callable[[BaseException, Any], str],
    ) -> None:
        self.observer = observer
        self.service = service
        self.name = name
        self.outcome = outcome
        self.metrics: MethodMetrics = observer.metrics.method(name)

    def request(self, context: Any) -> ObservedRequest:
        """Return a context manager that observes one request."""
        tracer = self.observer.tracer
        if tracer is None:
            return ObservedRequest(self, context, None)
        pairs = context.invocation_metadata() or ()
        return ObservedRequest(self, context, tracer.request(self.service, self.name, pairs))

    def record_refusal(self, status: str) -> None:
        """Count a request that was refused before it was read."""
        self.metrics.requests[status].add()
        self.metrics.duration.observe(0.0)
        if self.observer.log:
            self.observer.log.write(self.name, status, 0.0)


class ObservedRequest:
    """Observes one request while its ``with`` block runs."""

    __slots__ = ("_began_s", "_context", "_longest_wait_s", "_method", "_waited_for", "span")

    def __init__(self, method: ObservedMethod, context: Any, span: Any) -> None:
        self._method, self._context, self.span = method, context, span
        self._waited_for: str | None = None
        self._longest_wait_s = 0.0

    def record_wait(self, part: str, began_s: float) -> None:
        """Note that the request has waited for a part of the system since ``began_s``."""
        seconds = now_s() - began_s
        if seconds > self._longest_wait_s:
            self._longest_wait_s, self._waited_for = seconds, part

    def __enter__(self) -> ObservedRequest:
        self._method.observer.metrics.in_flight.add()
        # Each request runs in a task, which has a context of its own.
        current_request.set(self)
        self._began_s = now_s()
        return self

    def __exit__(
        self, _kind: object, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        seconds = now_s() - self._began_s
        method = self._method
        status = "OK" if error is None else method.outcome(error, self._context)
        # Break a cycle: the call refers to its task, whose context refers to this request.
        del self._context
        observer = method.observer
        observer.metrics.in_flight.add(-1)
        method.metrics.requests[status].add()
        method.metrics.duration.observe(seconds)
        log = observer.log
        # The guard logs once a second how many requests exceeded a rate limit.
        failed = status in FAILED and not isinstance(error, RateLimited)
        if log and (failed or seconds >= log.slow_s):
            log.write(
                method.name,
                status,
                seconds,
                waited_for=self._waited_for,
                error=error,
                trace_id=observer.tracer.trace_id(self.span) if observer.tracer else None,
            )
        if observer.tracer:
            observer.tracer.end(self.span, status, server=True)
