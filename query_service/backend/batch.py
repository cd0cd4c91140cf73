"""A batch of queries while its Predict is in flight."""

import asyncio
import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerFault, OutOfTime, RetrievalError

logger = logging.getLogger(__name__)

#: A Predict is cancelled once no query waits for it any more. If its deadline is this close, it is
#: allowed to reach the deadline instead, so that it counts as a timeout.
NEAR_DEADLINE_S = 0.05
#: If a batch fails, its queries are sent one by one. If this many of them fail and none succeeds,
#: the rest get the same error without being sent.
_MAX_FAULTS = 3


class BatchModel(Protocol):
    """Ranks the catalogue for many queries in one call."""

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        """Return the ``depths[i]`` best items for each ``queries[i]``, all of the same ``kind``.

        ``deadline`` is a ``loop.time()`` value in seconds.

        Raises:
            RetrievalError: The model does not return rankings.
        """


@dataclass(eq=False, slots=True)
class PendingQuery:
    """A query that waits for its ranking.

    Attributes:
        depth: The number of items to fetch.
        deadline: A ``loop.time()`` value in seconds.
        ranking: A future that resolves to the ranking or an error.
        batch: The batch that the query is part of, once its Predict is in flight.
    """

    query: Query
    depth: int
    deadline: float
    ranking: "asyncio.Future[RankedItems]"
    batch: Optional["Batch"] = None

    def fail(self, error: Exception) -> None:
        """Resolve the ranking with an error, unless it is already resolved."""
        if not self.ranking.done():
            self.ranking.set_exception(error)


class Batch:
    """Sends one Predict, and resolves every query in it with a ranking or an error."""

    def __init__(
        self,
        model: BatchModel,
        pending: list[PendingQuery],
        on_done: Callable[[float | None], None],
    ) -> None:
        """Send the Predict.

        When it ends, ``on_done`` is called with its duration in seconds, or None if it failed.
        """
        self._model = model
        self._pending = pending
        self._waiting = len(pending)
        self._deadline = max(entry.deadline for entry in pending)
        self._on_done = on_done
        for entry in pending:
            entry.batch = self
        self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self) -> None:
        """Note that one query no longer waits. When none waits, cancel the Predict."""
        self._waiting -= 1
        if self._waiting:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline - NEAR_DEADLINE_S:
            self._task.cancel()
        else:
            loop.call_at(self._deadline + NEAR_DEADLINE_S, self._task.cancel)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        duration_s = None
        try:
            if await self._send(self._pending) is None:
                duration_s = loop.time() - began_s
        finally:
            self._on_done(duration_s)

    async def _send(self, pending: list[PendingQuery]) -> Exception | None:
        """Resolve all of the queries, and return the error if the Predict failed."""
        try:
            rankings = await self._model.fetch_batch(
                pending[0].query.kind,
                [entry.query for entry in pending],
                [entry.depth for entry in pending],
                # BatchingModel fails each query whose own deadline is earlier.
                max(entry.deadline for entry in pending),
            )
        except ModelServerFault as error:
            if len(pending) == 1:
                pending[0].fail(_copy_of(error))
            else:
                await self._send_each(pending, error)
            return error
        except Exception as error:
            # An error of another type is a bug, but the queries must be resolved anyway.
            if not isinstance(error, RetrievalError):
                logger.exception("a Predict failed")
            for entry in pending:
                entry.fail(_copy_of(error))
            return error
        for entry, ranking in zip(pending, rankings, strict=True):
            if not entry.ranking.done():
                entry.ranking.set_result(ranking)
        return None

    async def _send_each(self, pending: list[PendingQuery], error: Exception) -> None:
        """Send the queries one by one, because a single one of them may have caused the fault."""
        faults = 0
        any_succeeded = False
        for entry in pending:
            if entry.ranking.done():
                continue
            if faults >= _MAX_FAULTS and not any_succeeded:
                entry.fail(_copy_of(error))
                continue
            entry_error = await self._send([entry])
            if entry_error is None:
                any_succeeded = True
            # A query that ran out of time says nothing about the others.
            elif not isinstance(entry_error, OutOfTime):
                error = entry_error
                faults += 1


def _copy_of(error: Exception) -> Exception:
    """Return a copy of an error for one query, because raising an error adds to its traceback."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
