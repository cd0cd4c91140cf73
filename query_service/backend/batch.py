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

#: A Predict that nobody waits for any more is cancelled, unless its deadline is this close: then it
#: ends by its deadline, so that it counts as too slow.
NEAR_DEADLINE_S = 0.05
#: If a batch fails, its queries are sent one by one; after this many failures in a row, and until
#: one of them succeeds, the others get the same error unsent.
_MAX_FAULTS = 3


class BatchModel(Protocol):
    """Ranks the catalogue for many queries in one call."""

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        """Return the ``depths[i]`` best items for each ``queries[i]``, all of one kind.

        ``deadline`` is in seconds of ``loop.time()``.

        Raises:
            RetrievalError: The model gives no rankings.
        """


@dataclass(eq=False, slots=True)
class PendingQuery:
    """A query that waits for its ranking.

    Attributes:
        depth: The number of items to fetch.
        deadline: In seconds of ``loop.time()``.
        ranking: Resolved with the ranking or an error.
        batch: The batch that the query is part of, once its Predict is in flight.
    """

    query: Query
    depth: int
    deadline: float
    ranking: "asyncio.Future[RankedItems]"
    batch: Optional["Batch"] = None

    def fail(self, error: Exception) -> None:
        """Resolve the ranking with an error, unless it is resolved."""
        if not self.ranking.done():
            self.ranking.set_exception(error)


class Batch:
    """Sends one Predict, and gives every pending query its ranking or its error."""

    def __init__(
        self,
        model: BatchModel,
        pending: list[PendingQuery],
        on_done: Callable[[float | None], None],
    ) -> None:
        """Send the Predict.

        ``on_done`` is called at its end with the seconds it took, or None if it failed.
        """
        self._model = model
        self._pending = pending
        self._waiting = len(pending)
        self._deadline = max(one.deadline for one in pending)
        self._on_done = on_done
        for one in pending:
            one.batch = self
        self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self) -> None:
        """Count one query less; cancel the Predict when nobody waits for it any more."""
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
        began, seconds = loop.time(), None
        try:
            if await self._send(self._pending) is None:
                seconds = loop.time() - began
        finally:
            self._on_done(seconds)

    async def _send(self, pending: list[PendingQuery]) -> Exception | None:
        """Resolve all of the queries; return the error if the Predict failed."""
        try:
            rankings = await self._model.fetch_batch(
                pending[0].query.kind,
                [one.query for one in pending],
                [one.depth for one in pending],
                # Queries with an earlier deadline are ended by the batching model.
                max(one.deadline for one in pending),
            )
        except ModelServerFault as error:
            if len(pending) == 1:
                pending[0].fail(_own(error))
            else:
                await self._send_each(pending, error)
            return error
        except Exception as error:
            # Not a RetrievalError: a bug. The queries must be resolved all the same.
            if not isinstance(error, RetrievalError):
                logger.exception("a Predict failed")
            for one in pending:
                one.fail(_own(error))
            return error
        for one, ranking in zip(pending, rankings, strict=True):
            if not one.ranking.done():
                one.ranking.set_result(ranking)
        return None

    async def _send_each(self, pending: list[PendingQuery], error: Exception) -> None:
        """Send the queries one by one, in case a single one of them caused the fault."""
        faults = 0
        for one in pending:
            if one.ranking.done():
                continue
            if faults == _MAX_FAULTS:
                one.fail(_own(error))
                continue
            failure = await self._send([one])
            if failure is None:
                # The fault is not everyone's: from here on, try all of the others.
                faults = -len(pending)
            # A query that ran out of time says nothing about the others.
            elif not isinstance(failure, OutOfTime):
                error, faults = failure, faults + 1


def _own(error: Exception) -> Exception:
    """Return a copy for one query: each query raises its own, which collects a traceback."""
    own = copy.copy(error)
    own.__cause__ = error
    return own
