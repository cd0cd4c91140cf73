"""Decorators that observe the model, its Predicts and the seen store."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any, TypeVar

from query_service.backend.tf_serving import Metadata, ObservePredict
from query_service.core.filters import SeenStore
from query_service.core.query import Query, RankedItems
from query_service.core.retriever import Model
from query_service.errors import SeenStoreUnavailable
from query_service.telemetry.observer import Observer, current_request, now_s

#: The names in the request log of the parts of the system that requests wait for.
MODEL_SERVER = "model_server"
SEEN_STORE = "seen_store"

T = TypeVar("T")


class ObservedModel:
    """A :class:`query_service.core.retriever.Model` that measures how long requests wait for it."""

    def __init__(self, model: Model, observer: Observer) -> None:
        self._model = model
        self._tracer, self._spans = observer.tracer, observer.spans

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:
        """Return what the model returns."""
        request = current_request.get()
        if request is None:
            return await self._model.fetch(query, depth, deadline)
        if self._tracer:
            self._spans[id(query)] = request.span
        began_s = now_s()
        try:
            return await self._model.fetch(query, depth, deadline)
        finally:
            request.record_wait(MODEL_SERVER, began_s)
            if self._tracer:
                self._spans.pop(id(query), None)


def observe_predict(observer: Observer, address: str) -> ObservePredict:
    """Return a function that observes each Predict to the model server at ``address``."""

    @contextmanager
    def observe(
        signature: str, queries: Sequence[Query], depths: Sequence[int]
    ) -> Iterator[Metadata]:
        metrics, tracer = observer.metrics, observer.tracer
        span: Any = None
        metadata: Metadata = None
        if tracer:
            spans = [observer.spans[id(query)] for query in queries if id(query) in observer.spans]
            span = tracer.predict(spans, address, signature, depths)
            metadata = tracer.metadata(span)
        began_s, status = now_s(), "OK"
        try:
            yield metadata
        except BaseException as error:
            # A gRPC error has a code; otherwise the call was cancelled.
            code = getattr(error, "code", None)
            status = code().name if code else "CANCELLED"
            raise
        finally:
            metrics.predicts[status].add()
            metrics.predict_duration[signature].observe(now_s() - began_s)
            metrics.predict_queries.observe(len(depths))
            metrics.predict_depth.observe(max(depths))
            if tracer:
                tracer.end(span, status, server=False)

    return observe


class ObservedSeenStore:
    """A :class:`query_service.core.filters.SeenStore` that measures its reads."""

    def __init__(self, store: SeenStore, observer: Observer) -> None:
        self._store, self._metrics = store, observer.metrics

    async def seen(self, user_id: str, limit: int | None = None) -> Set[bytes] | None:
        """Return what the store returns."""
        return await self._observe(self._store.seen(user_id, limit))

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> Set[bytes]:
        """Return what the store returns."""
        return await self._observe(self._store.seen_among(user_id, item_ids))

    async def _observe(self, read: Awaitable[T]) -> T:
        began_s = now_s()
        try:
            return await read
        except SeenStoreUnavailable:
            self._metrics.seen_errors["unavailable"].add()
            raise
        # The deadline passed, or the caller cancelled the request.
        except BaseException:
            self._metrics.seen_errors["given_up"].add()
            raise
        finally:
            self._metrics.seen_duration.observe(now_s() - began_s)
            if request := current_request.get():
                request.record_wait(SEEN_STORE, began_s)

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()
