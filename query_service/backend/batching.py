"""Joins queries: those that come while a Predict is under way go into the next one together.

There is no timer. A query that comes while nothing is under way is asked at once, together with
those of the same turn of the loop; under load the time of one Predict is what the next one's
queries have to come in, and the more they are, the less each costs.

Only what costs about the same is joined: queries of one kind whose depths are within a factor of
two, because the deepest of a batch sets the width of all its rows.
"""

import asyncio
import copy
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerFault, OutOfTime, Overloaded, RetrievalError
from query_service.telemetry.instruments import Gauge
from query_service.telemetry.observer import (
    MODEL_SERVER,
    ObservedRequest,
    Observer,
    current,
    joined,
)

logger = logging.getLogger(__name__)

#: Queries of one Predict.
MAX_ROWS = 256
#: Rows times the deepest depth of one Predict: some 3 MB of answer.
MAX_CELLS = 131_072
#: Up to here depth costs next to nothing.
_SHALLOW = 64
#: How much the newest Predict counts in what Predicts take of late.
_NEWEST = 0.25
#: So close to its deadline a Predict is left to end by that: it is too slow, rather than unwanted.
_ENDING_S = 0.05
#: Queries of a failed Predict that fail by themselves, too, until the others are taken to.
_FAULTS = 3


class BatchModel(Protocol):
    """Ranks the catalogue for many queries at once."""

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        """The ``depths[i]`` best for each query, all of one kind.

        ``deadline`` is in seconds of ``loop.time()``.
        """


@dataclass(eq=False, slots=True)
class _Order:
    query: Query
    depth: int
    deadline: float
    row: "asyncio.Future[RankedItems]"
    request: ObservedRequest | None = None
    predict: "_Predict | None" = None


class JoiningModel:
    """A :class:`query_service.core.retriever.Model` that asks a :class:`BatchModel`."""

    def __init__(
        self,
        model: BatchModel,
        under_way: int = 1,
        observer: Observer | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """``under_way`` Predicts may be under way at a time, of each kind and depth.

        ``check`` raises for who comes while the model is not asked at all.
        """
        self._model = model
        self._check = check
        self._waiting = (observer or Observer()).metrics.waiting
        self._under_way = under_way
        self._lanes: dict[tuple[QueryKind, int], _Lane] = defaultdict(self._lane)
        self._deadlines = _Deadlines()

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:
        """As part of the next Predict that its like goes into.

        Raises:
            OutOfTime: the deadline passed, whatever becomes of the others.
            Overloaded: so many are waiting that the deadline would pass.
            RetrievalError: as the model says, or ``check``.
        """
        self._check()
        request, began_s = current(), time.perf_counter()
        row: asyncio.Future[RankedItems] = asyncio.get_running_loop().create_future()
        order = _Order(query, depth, deadline, row, request)
        self._lanes[query.kind, max(depth, _SHALLOW).bit_length()].add(order)
        self._deadlines.add(order)
        try:
            return await order.row
        finally:
            if request is not None:
                request.waited(MODEL_SERVER, began_s)
            self._deadlines.remove(order)
            if order.predict is not None:
                order.predict.left()
                # No cycle may hold the rows until someone looks for cycles.
                order.predict = None

    def _lane(self) -> "_Lane":
        return _Lane(self._model, self._under_way, self._waiting)


class _Deadlines:
    """Ends the orders whose time is over: one timer for all, which nearly always finds none."""

    def __init__(self) -> None:
        self._orders: set[_Order] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, order: _Order) -> None:
        self._orders.add(order)
        if self._timer is None or order.deadline < self._timer.when():
            self._wake_at(order.deadline)

    def remove(self, order: _Order) -> None:
        self._orders.discard(order)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._end_overdue)

    def _end_overdue(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        overdue = {one for one in self._orders if one.deadline <= now}
        self._orders -= overdue
        for order in overdue:
            if not order.row.done():
                order.row.set_exception(
                    OutOfTime("the deadline passed while the model server was asked")
                )
        if self._orders:
            self._wake_at(min(one.deadline for one in self._orders))


class _Lane:
    """Queries that may be joined, in the order in which they came."""

    def __init__(self, model: BatchModel, under_way: int, counted: Gauge) -> None:
        self._model = model
        self._counted = counted
        self._under_way = self._free = under_way
        self._waiting: deque[_Order] = deque()
        self._woken = False
        #: Seconds that a Predict takes, of late, and when the last one was begun.
        self._duration_s = 0.0
        self._begun = 0.0

    def add(self, order: _Order) -> None:
        """Have it asked. Raises Overloaded where its answer would come too late."""
        if not self._free and self._expected() > order.deadline:
            raise Overloaded("too many requests are waiting for the model server")
        self._waiting.append(order)
        self._counted.add()
        if self._free and not self._woken:
            self._woken = True
            # After the others of this turn.
            asyncio.get_running_loop().call_soon(self._ask)

    def _expected(self) -> float:
        """When one that comes now has its answer, if Predicts take as long as of late."""
        now = asyncio.get_running_loop().time()
        ahead = len(self._waiting) // (MAX_ROWS * self._under_way)
        return max(now, self._begun + self._duration_s) + (ahead + 1) * self._duration_s

    def _ask(self) -> None:
        self._woken = False
        while self._free and (batch := self._next()):
            self._free -= 1
            self._begun = asyncio.get_running_loop().time()
            _Predict(self._model, batch, self._done)

    def _done(self, seconds: float | None) -> None:
        """One more may be asked; ``seconds``: what this one took, None without an answer."""
        self._free += 1
        if seconds is not None:
            self._duration_s += (seconds - self._duration_s) * _NEWEST
        self._ask()

    def _next(self) -> list[_Order]:
        """As many as one Predict takes; those that nobody waits for any more are left out."""
        batch: list[_Order] = []
        deepest = 0
        while self._waiting and len(batch) < MAX_ROWS:
            order = self._waiting[0]
            if not order.row.done():
                deepest = max(deepest, order.depth)
                if batch and (len(batch) + 1) * deepest > MAX_CELLS:
                    break
                batch.append(order)
            self._waiting.popleft()
            self._counted.add(-1)
        return batch


class _Predict:
    """One Predict under way: gives every order its row or its error."""

    def __init__(
        self, model: BatchModel, orders: list[_Order], done: Callable[[float | None], None]
    ) -> None:
        self._model = model
        self._orders = orders
        self._waited_for = len(orders)
        self._deadline = max(one.deadline for one in orders)
        self._done = done
        for order in orders:
            order.predict = self
        self._task = asyncio.get_running_loop().create_task(self._run())

    def left(self) -> None:
        """One order is no longer waited for; without any there is nothing to do."""
        self._waited_for -= 1
        if self._waited_for:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline - _ENDING_S:
            self._task.cancel()
        else:
            loop.call_at(self._deadline + _ENDING_S, self._task.cancel)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        begun, seconds = loop.time(), None
        try:
            if await self._ask(self._orders) is None:
                seconds = loop.time() - begun
        finally:
            self._done(seconds)

    async def _ask(self, orders: list[_Order]) -> Exception | None:
        """Why not all of them have got rows."""
        joined([one.request for one in orders])
        try:
            rows = await self._model.fetch_batch(
                orders[0].query.kind,
                [one.query for one in orders],
                [one.depth for one in orders],
                # Each order watches its own.
                max(one.deadline for one in orders),
            )
        except ModelServerFault as error:
            if len(orders) == 1:
                _fail(orders, error)
            else:
                await self._ask_each(orders, error)
            return error
        except Exception as error:
            # A bug; all the same nobody may wait for ever.
            if not isinstance(error, RetrievalError):
                logger.exception("a Predict failed")
            _fail(orders, error)
            return error
        for order, row in zip(orders, rows, strict=True):
            if not order.row.done():
                order.row.set_result(row)
        return None

    async def _ask_each(self, orders: list[_Order], error: Exception) -> None:
        """It may be one query's fault alone; where it is none's, not each has to be tried."""
        faults = 0
        for order in orders:
            if order.row.done():
                continue
            if faults == _FAULTS:
                _fail([order], error)
                continue
            failed = await self._ask([order])
            if failed is None:
                # The others are worth it.
                faults = -len(orders)
            # The others may have more time; whatever else it is, it is the newest to be known.
            elif not isinstance(failed, OutOfTime):
                error, faults = failed, faults + 1


def _fail(orders: list[_Order], error: Exception) -> None:
    for order in orders:
        if not order.row.done():
            # Each raises it by itself; where it comes from is in the first one's traceback.
            own = copy.copy(error)
            own.__cause__ = error
            order.row.set_exception(own)
