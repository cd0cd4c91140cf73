"""Request batching: queries that arrive while a Predict is in flight share the next one.

Batching does not wait for a timer. A query that arrives while nothing is in flight is sent at once,
together with the others of the same event loop iteration. Under load, queries accumulate while a
Predict is in flight, so that batches grow with the load and each query costs less.

Only queries of similar cost share a batch: those of one kind, whose depths differ by less than a
factor of two. The deepest query of a batch sets the width of all its rows.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

from query_service.backend.batch import Batch, BatchModel, PendingQuery
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import OutOfTime, Overloaded

#: The maximum number of queries in one Predict.
MAX_QUERIES = 256
#: The maximum number of ranked items in the response to one Predict, which is then about 3 MB.
MAX_RANKED_ITEMS = 131_072
#: Queries of all depths up to this one may share a batch, because they cost next to nothing.
_SHALLOW = 64
#: The weight of the latest Predict in the moving average of durations.
_LATEST_WEIGHT = 0.25


class BatchingModel:
    """A :class:`query_service.core.retriever.Model` that sends queries to a BatchModel."""

    def __init__(
        self,
        model: BatchModel,
        max_in_flight: int = 1,
        *,
        check: Callable[[], None] = lambda: None,
        on_queue_change: Callable[[int], None] = lambda _change: None,
    ) -> None:
        """Put request batching in front of a model.

        Args:
            model: Ranks the batches.
            max_in_flight: The maximum number of Predict calls in flight for each queue.
            check: Called for each query; raises RetrievalError if no query may be sent now.
            on_queue_change: Called with the change in the number of queries that wait in a queue.
        """
        self._check = check
        self._queues: dict[tuple[QueryKind, int], _Queue] = defaultdict(
            lambda: _Queue(model, max_in_flight, on_queue_change)
        )
        self._deadlines = _Deadlines()

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:
        """Return the ``depth`` best items for a query, fetched with a batch of similar queries.

        Raises:
            OutOfTime: The deadline passed; the rest of the batch is not affected.
            Overloaded: So many queries are waiting that this one would miss its deadline.
            RetrievalError: Raised by ``check`` or by the model.
        """
        self._check()
        ranking: asyncio.Future[RankedItems] = asyncio.get_running_loop().create_future()
        pending = PendingQuery(query, depth, deadline, ranking)
        self._queues[query.kind, max(depth, _SHALLOW).bit_length()].add(pending)
        self._deadlines.add(pending)
        try:
            return await ranking
        finally:
            self._deadlines.remove(pending)
            if pending.batch is not None:
                pending.batch.leave()
                # Break the reference cycle, which would keep the rankings in memory until the next
                # garbage collection.
                pending.batch = None


class _Deadlines:
    """Fails queries whose deadline passes.

    One timer serves all queries, because a timer for each would cost 2 us more per query.
    """

    def __init__(self) -> None:
        self._pending: set[PendingQuery] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, pending: PendingQuery) -> None:
        self._pending.add(pending)
        if self._timer is None or pending.deadline < self._timer.when():
            self._wake_at(pending.deadline)

    def remove(self, pending: PendingQuery) -> None:
        self._pending.discard(pending)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._fail_overdue)

    def _fail_overdue(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        overdue = {pending for pending in self._pending if pending.deadline <= now}
        self._pending -= overdue
        for pending in overdue:
            pending.fail(OutOfTime("the deadline passed while waiting for the model server"))
        if self._pending:
            self._wake_at(min(pending.deadline for pending in self._pending))


class _Queue:
    """A queue of similar queries, which may share a batch."""

    def __init__(
        self, model: BatchModel, max_in_flight: int, on_change: Callable[[int], None]
    ) -> None:
        self._model = model
        self._on_change = on_change
        self._max_in_flight = self._free_slots = max_in_flight
        self._waiting: deque[PendingQuery] = deque()
        self._scheduled = False
        #: The moving average of the duration of a Predict.
        self._average_s = 0.0
        #: The loop time at which the latest Predict was sent.
        self._sent_at_s = 0.0

    def add(self, pending: PendingQuery) -> None:
        """Enqueue a query. Raises Overloaded if its ranking would arrive after its deadline."""
        if not self._free_slots and self._expected_end_s() > pending.deadline:
            raise Overloaded("too many requests are waiting for the model server")
        self._waiting.append(pending)
        self._on_change(1)
        if self._free_slots and not self._scheduled:
            self._scheduled = True
            # This runs after the other queries of this event loop iteration have been added.
            asyncio.get_running_loop().call_soon(self._send)

    def _expected_end_s(self) -> float:
        """Return the estimated loop time at which a query that arrives now gets its ranking."""
        now = asyncio.get_running_loop().time()
        batches_ahead = len(self._waiting) // (MAX_QUERIES * self._max_in_flight)
        in_flight_end_s = max(now, self._sent_at_s + self._average_s)
        return in_flight_end_s + (batches_ahead + 1) * self._average_s

    def _send(self) -> None:
        """Send batches until no query waits or the limit of Predicts in flight is reached."""
        self._scheduled = False
        while self._free_slots and (pending := self._next_batch()):
            self._free_slots -= 1
            self._sent_at_s = asyncio.get_running_loop().time()
            Batch(self._model, pending, self._batch_done)

    def _batch_done(self, duration_s: float | None) -> None:
        self._free_slots += 1
        if duration_s is not None:
            self._average_s += (duration_s - self._average_s) * _LATEST_WEIGHT
        self._send()

    def _next_batch(self) -> list[PendingQuery]:
        """Dequeue as many queries as fit into one Predict, and drop those already resolved."""
        batch: list[PendingQuery] = []
        max_depth = 0
        while self._waiting and len(batch) < MAX_QUERIES:
            pending = self._waiting[0]
            if not pending.ranking.done():
                max_depth = max(max_depth, pending.depth)
                if batch and (len(batch) + 1) * max_depth > MAX_RANKED_ITEMS:
                    break
                batch.append(pending)
            self._waiting.popleft()
            self._on_change(-1)
        return batch
