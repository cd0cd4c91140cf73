"""The core: which candidates answer a query. Neither gRPC nor protobuf here.

Exclusion is exact. The model server knows no exclusions, so more is fetched than was
asked for, what is excluded is dropped, and where that leaves too few the fetch is
repeated deeper; k candidates and all exclusions is always deep enough.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from query_service.errors import OutOfTime, RetrievalError, UnknownQuery
from serving_contract import FILLER_ITEM_ID, MAX_K

#: How much deeper each further fetch goes.
_DEEPER = 4
_FIRST_MARGIN = 100


class Kind(enum.Enum):
    """What candidates are looked up by."""

    USER = "user"
    USER_AND_RECENT = "user and recent items"
    ITEM = "item"


class Source(enum.Enum):
    """Where candidates come from."""

    MODEL = "model"
    POPULARITY = "popularity"


@dataclass(frozen=True)
class Query:
    """A request whose fields keep all rules."""

    kind: Kind
    id: str
    max_candidates: int
    #: USER_AND_RECENT only: what the user did last, newest last, each once.
    recent: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    #: Whose seen items to leave out; None for nobody's.
    viewer_id: str | None = None


@dataclass(frozen=True)
class Row:
    """What the model server gave for one id: best first, possibly with filler at the end."""

    item_ids: Sequence[str]
    scores: Sequence[float]
    known: bool
    version: int


@dataclass(frozen=True)
class Candidates:
    """The answer to a query: best first, no duplicates."""

    item_ids: Sequence[str]
    scores: Sequence[float]
    source: Source
    version: int


class ModelClient(Protocol):
    """Asks the model server."""

    async def fetch(
        self, kind: Kind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[Row]:
        """The ``depths[i]`` best for each query, all of one kind.

        ``deadline`` is in seconds of ``loop.time()``.
        """


class SeenStore(Protocol):
    """Knows what users have seen."""

    async def seen(self, user_id: str) -> frozenset[str]:
        """Item ids; empty for an unknown user. Raises SeenStoreUnavailable."""

    async def close(self) -> None:
        """Free what is held."""


class Retriever:
    """Answers queries."""

    def __init__(
        self, model: ModelClient, seen_store: SeenStore, *, popular_for_unknown_users: bool = True
    ) -> None:
        self._model = model
        self._seen_store = seen_store
        self._popular_for_unknown_users = popular_for_unknown_users

    async def retrieve(self, query: Query, deadline: float) -> Candidates:
        """The candidates for one query.

        Raises:
            RetrievalError: see :mod:`query_service.errors`.
        """
        [answer] = await self.retrieve_batch([query], deadline)
        if isinstance(answer, RetrievalError):
            raise answer
        return answer

    async def retrieve_batch(
        self, queries: Sequence[Query], deadline: float
    ) -> list[Candidates | RetrievalError]:
        """Answer every query, or say why it fails: one failure does not touch the others."""
        pending = [_Pending(query) for query in queries]
        await asyncio.gather(*(self._add_seen(one, deadline) for one in pending))
        await asyncio.gather(
            *(
                self._fetch(kind, [one for one in pending if one.query.kind is kind], deadline)
                for kind in Kind
            )
        )
        return [one.outcome() for one in pending]

    async def _add_seen(self, one: "_Pending", deadline: float) -> None:
        if one.query.viewer_id is None:
            return
        try:
            async with asyncio.timeout_at(deadline):
                one.excluded |= await self._seen_store.seen(one.query.viewer_id)
            # The user has just seen these; the store may not know it yet.
            one.excluded |= frozenset(one.query.recent)
        except TimeoutError:
            one.result = OutOfTime("the deadline passed while seen items were read")
        except RetrievalError as error:
            one.result = error

    async def _fetch(self, kind: Kind, pending: list["_Pending"], deadline: float) -> None:
        """Fetch until each has enough; all that need one go into the same fetch."""
        for one in pending:
            one.start()
        while asking := [one for one in pending if one.result is None]:
            try:
                rows = await self._model.fetch(
                    kind,
                    [one.query for one in asking],
                    [one.depth for one in asking],
                    deadline,
                )
            except RetrievalError as error:
                for one in asking:
                    one.result = error
                return
            for one, row in zip(asking, rows, strict=True):
                one.take(row, self._accept)

    def _accept(self, query: Query, row: Row) -> RetrievalError | None:
        is_item = query.kind is Kind.ITEM
        if row.known or (not is_item and self._popular_for_unknown_users):
            return None
        others = ", nor any of the recent items" if query.recent else ""
        what = "item" if is_item else "user"
        return UnknownQuery(f"the model does not know {what} {query.id!r}{others}")


class _Pending:
    """A query on its way: what is excluded, how deep to fetch, the outcome."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.excluded = query.excluded
        self.depth = 0
        self.result: Candidates | RetrievalError | None = None

    def start(self) -> None:
        if self.query.kind is Kind.ITEM:
            self.excluded |= {self.query.id}
        k = self.query.max_candidates
        self.depth = min(k + len(self.excluded), 2 * k + _FIRST_MARGIN, MAX_K)

    def take(self, row: Row, accept: Callable[[Query, Row], RetrievalError | None]) -> None:
        """Use what came: done, or deeper next time."""
        self.result = accept(self.query, row)
        if self.result is not None:
            return
        k = self.query.max_candidates
        item_ids, scores = _survivors(row, self.excluded, k)
        deepest = min(k + len(self.excluded), MAX_K)
        ended = len(row.item_ids) < self.depth or FILLER_ITEM_ID in row.item_ids
        if len(item_ids) < k and not ended and self.depth < deepest:
            self.depth = min(self.depth * _DEEPER, deepest)
            return
        source = Source.MODEL if row.known else Source.POPULARITY
        self.result = Candidates(item_ids, scores, source, row.version)

    def outcome(self) -> Candidates | RetrievalError:
        assert self.result is not None
        return self.result


def _survivors(row: Row, excluded: frozenset[str], k: int) -> tuple[list[str], list[float]]:
    """The first k of a row that are neither excluded, nor filler, nor there before."""
    if not excluded and len(row.item_ids) <= k:
        taken = len(set(row.item_ids)) == len(row.item_ids)
        if taken and FILLER_ITEM_ID not in row.item_ids:
            return list(row.item_ids), list(row.scores)
    dropped = set(excluded)
    dropped.add(FILLER_ITEM_ID)
    item_ids: list[str] = []
    scores: list[float] = []
    for item_id, score in zip(row.item_ids, row.scores, strict=True):
        if item_id in dropped:
            continue
        dropped.add(item_id)
        item_ids.append(item_id)
        scores.append(score)
        if len(item_ids) == k:
            break
    return item_ids, scores
