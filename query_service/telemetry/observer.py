"""What the service tells of its work, at once to metrics, traces and log."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from query_service.core.filters import SeenStore
from query_service.core.query import Candidates
from query_service.errors import SeenStoreUnavailable
from query_service.telemetry.metrics import MethodMetrics, Metrics
from query_service.telemetry.request_log import FAILED, RequestLog
from rpc.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Set

    from query_service.telemetry.spans import Tracer

MODEL_SERVER = "model_server"
SEEN_STORE = "seen_store"

_current: ContextVar[ObservedRequest | None] = ContextVar("current", default=None)
_joined: ContextVar[Sequence[ObservedRequest | None]] = ContextVar("joined", default=())
_now = time.perf_counter

T = TypeVar("T")


class Context(Protocol):
    """Knows what came with a call."""

    def invocation_metadata(self) -> Any:
        """The caller's metadata, pairs of name and value; or None."""


class Observer:
    """One of a process. Without arguments it counts for itself, and neither traces nor logs."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        tracer: Tracer | None = None,
        log: RequestLog | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.tracer = tracer
        self.log = log

    def method(
        self, service: str, name: str, outcome: Callable[[BaseException, Any], str]
    ) -> ObservedMethod:
        """Before the first request to a method.

        ``outcome`` names the status of a request, from what it ended with and its context.
        """
        return ObservedMethod(self, service, name, outcome)

    def answered(self, candidates: Candidates) -> None:
        """A query has its candidates."""
        metrics = self.metrics
        metrics.answers[candidates.source.value].add()
        metrics.candidates.observe(len(candidates.item_ids))
        metrics.excluded.observe(candidates.excluded)
        if candidates.fetches > 1:
            metrics.refetches.add(candidates.fetches - 1)
        if candidates.fallback:
            metrics.fallbacks.add()

    def predict(self, address: str, signature: str, depths: Sequence[int]) -> ObservedPredict:
        """Around one call of the model server at ``address``."""
        return ObservedPredict(self, address, signature, depths)

    def health(self, serving: bool, version: int | None) -> None:
        """What the watch over the model server has found."""
        self.metrics.serving.set(serving)
        self.metrics.model_version.set(version or 0)

    async def close(self) -> None:
        """Write and export what is left."""
        if self.log:
            self.log.close()
        if self.tracer:
            await self.tracer.close()


class ObservedMethod:
    """Makes the observation of each of a method's requests."""

    def __init__(
        self,
        observer: Observer,
        service: str,
        name: str,
        outcome: Callable[[BaseException, Any], str],
    ) -> None:
        self.observer, self.service, self.name, self.outcome = observer, service, name, outcome
        self.metrics: MethodMetrics = observer.metrics.method(name)

    def request(self, context: Context) -> ObservedRequest:
        """Around a request."""
        tracer = self.observer.tracer
        if tracer is None:
            return ObservedRequest(self, context, None)
        pairs = context.invocation_metadata() or ()
        return ObservedRequest(self, context, tracer.request(self.service, self.name, pairs))

    def refused(self, status: str) -> None:
        """A request ended before anything was done for it."""
        self.metrics.requests[status].add()
        self.metrics.duration.observe(0.0)
        if self.observer.log:
            self.observer.log.write(
                *(self.name, status, 0.0), waited_for=None, error=None, trace_id=None
            )


class ObservedRequest:
    """A request, from ``with`` to the end of its block."""

    __slots__ = ("_began_s", "_context", "_longest_s", "_method", "_waited_for", "span")

    def __init__(self, method: ObservedMethod, context: Context, span: Any) -> None:
        self._method, self._context, self.span = method, context, span
        self._waited_for: str | None = None
        self._longest_s = 0.0

    def waited(self, part: str, began_s: float) -> None:
        """It waited for a part since ``began_s``, in seconds of ``time.perf_counter()``."""
        seconds = _now() - began_s
        if seconds > self._longest_s:
            self._longest_s, self._waited_for = seconds, part

    def __enter__(self) -> ObservedRequest:
        self._method.observer.metrics.in_flight.add()
        # Each request is a task, and has this to itself.
        _current.set(self)
        self._began_s = _now()
        return self

    def __exit__(
        self, _kind: object, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        seconds = _now() - self._began_s
        method = self._method
        status = "OK" if error is None else method.outcome(error, self._context)
        # The call holds its task, and that this request: no cycle may be left.
        del self._context
        observer = method.observer
        observer.metrics.in_flight.add(-1)
        method.metrics.requests[status].add()
        method.metrics.duration.observe(seconds)
        log = observer.log
        # Of a caller that asks more than it may, the guard tells once a second.
        failed = status in FAILED and not isinstance(error, RateLimited)
        if log and (failed or seconds >= log.slow_s):
            log.write(
                *(method.name, status, seconds),
                waited_for=self._waited_for,
                error=error,
                trace_id=observer.tracer.trace_id(self.span) if observer.tracer else None,
            )
        if observer.tracer:
            observer.tracer.end(self.span, status, server=True)


def current() -> ObservedRequest | None:
    """The request that is being answered here."""
    return _current.get()


def joined(requests: Sequence[ObservedRequest | None]) -> None:
    """The next Predict of this task is for these."""
    _joined.set(requests)


class ObservedPredict:
    """A Predict, from ``with`` to the end of its block."""

    __slots__ = ("_began_s", "_depths", "_observer", "_signature", "_span", "metadata")

    def __init__(
        self, observer: Observer, address: str, signature: str, depths: Sequence[int]
    ) -> None:
        self._observer, self._signature, self._depths = observer, signature, depths
        #: To be sent with it.
        self.metadata: tuple[tuple[str, str], ...] | None = None
        self._span: Any = None
        if observer.tracer:
            requests = [one.span for one in _joined.get() if one is not None]
            self._span = observer.tracer.predict(requests, address, signature, depths)
            self.metadata = observer.tracer.metadata(self._span)

    def __enter__(self) -> ObservedPredict:
        self._began_s = _now()
        return self

    def __exit__(
        self,
        _kind: object,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        seconds = _now() - self._began_s
        status = "OK" if error is None else _status(error)
        metrics = self._observer.metrics
        metrics.predicts[status].add()
        metrics.predict_duration[self._signature].observe(seconds)
        metrics.predict_queries.observe(len(self._depths))
        metrics.predict_depth.observe(max(self._depths))
        if self._observer.tracer:
            self._observer.tracer.end(self._span, status, server=False)


def _status(error: object) -> str:
    """Of what a call raised: a gRPC error has a code; else it was cancelled."""
    code = getattr(error, "code", None)
    return str(code().name) if code else "CANCELLED"


class ObservedSeenStore:
    """A :class:`query_service.core.filters.SeenStore` that tells how long reading takes."""

    def __init__(self, store: SeenStore, observer: Observer) -> None:
        self._store, self._metrics = store, observer.metrics

    async def seen(self, user_id: str, limit: int | None = None) -> Set[bytes] | None:
        """As the store says. Raises SeenStoreUnavailable."""
        return await self._observed(self._store.seen(user_id, limit))

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> Set[bytes]:
        """As the store says. Raises SeenStoreUnavailable."""
        return await self._observed(self._store.seen_among(user_id, item_ids))

    async def _observed(self, read: Awaitable[T]) -> T:
        began_s = _now()
        try:
            return await read
        except SeenStoreUnavailable:
            self._metrics.seen_unavailable.add()
            raise
        # The deadline passed, or the caller has gone.
        except BaseException:
            self._metrics.seen_given_up.add()
            raise
        finally:
            self._metrics.seen_duration.observe(_now() - began_s)
            if request := _current.get():
                request.waited(SEEN_STORE, began_s)

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()
