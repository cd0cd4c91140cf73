"""The core: which candidates answer a query. Neither gRPC nor protobuf here.

Exclusion is exact. The model server knows no exclusions, so more is fetched than was
asked for, what is excluded is dropped, and where that leaves too few the fetch is
repeated deeper; k candidates and all exclusions is always deep enough. A user who has
seen thousands of items costs little more than others: what was fetched is looked up
among them, not they read.

Item ids are UTF-8 bytes here, as they are on both wires: none is ever decoded.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable, Sequence, Set
from itertools import compress, count
from typing import NamedTuple, Protocol, TypeVar

from query_service.errors import ModelServerUnavailable, OutOfTime, UnknownQuery
from serving_contract import FILLER_ITEM_ID, MAX_K

_FILLER = FILLER_ITEM_ID.encode()
_FIRST_MARGIN = 100
#: A second fetch goes as deep as can be needed, up to so many; further ones this much deeper.
_SECOND_DEPTH = 8_192
_DEEPER = 4
#: Of a user who has seen more, only what is among the candidates is looked up.
_FEW = 1_000

T = TypeVar("T")


class Kind(enum.Enum):
    """What candidates are looked up by."""

    USER = "user"
    USER_AND_RECENT = "user and recent items"
    ITEM = "item"


class Source(enum.Enum):
    """Where candidates come from."""

    MODEL = "model"
    POPULARITY = "popularity"


class Query(NamedTuple):
    """A request whose fields keep all rules.

    Attributes:
        recent: USER_AND_RECENT only: what the user did last, newest last, each once.
        viewer_id: whose seen items to leave out; None for nobody's.
    """

    kind: Kind
    id: str
    max_candidates: int
    recent: tuple[str, ...] = ()
    excluded: Set[bytes] = frozenset()
    viewer_id: str | None = None


class Row(NamedTuple):
    """What the model server gave for one query: best first, possibly with filler at the end."""

    item_ids: Sequence[bytes]
    scores: Sequence[float]
    known: bool
    version: int


class Candidates(NamedTuple):
    """The answer to a query: best first, no duplicates.

    Attributes:
        excluded: how many item ids it had to leave out.
        fetches: how often the model was asked; more than once where exclusions left too few.
        fallback: whether it stands in for one that the model could not give.
    """

    item_ids: Sequence[bytes]
    scores: Sequence[float]
    source: Source
    version: int
    excluded: int = 0
    fetches: int = 1
    fallback: bool = False


class Model(Protocol):
    """Ranks the catalogue."""

    async def fetch(self, query: Query, depth: int, deadline: float) -> Row:
        """The ``depth`` best for a query; exclusions are not looked at.

        ``deadline`` is in seconds of ``loop.time()``.
        """


class SeenStore(Protocol):
    """Knows what users have seen."""

    async def seen(self, user_id: str) -> Set[bytes]:
        """Item ids; empty for an unknown user. Raises SeenStoreUnavailable."""

    async def seen_if_few(self, user_id: str, most: int) -> Set[bytes] | None:
        """The same; None where they are more than about ``most``, at a cost that those bound."""

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> Set[bytes]:
        """Those of the ids that the user has seen."""

    async def close(self) -> None:
        """Free what is held."""


class Retriever:
    """Answers queries."""

    def __init__(
        self,
        model: Model,
        seen_store: SeenStore,
        *,
        popular_for_unknown_users: bool = True,
        last_resort: Callable[[], Row | None] = lambda: None,
    ) -> None:
        """Put the parts together.

        Args:
            model: ranks the catalogue.
            seen_store: knows what users have seen.
            popular_for_unknown_users: else UnknownQuery.
            last_resort: the most popular items, for any query while the model is unavailable;
                None where there are none.
        """
        self._model = model
        self._seen_store = seen_store
        self._popular_for_unknown_users = popular_for_unknown_users
        self._last_resort = last_resort

    async def retrieve(self, query: Query, deadline: float) -> Candidates:
        """The candidates for one query. ``deadline`` is in seconds of ``loop.time()``.

        Raises:
            RetrievalError: see :mod:`query_service.errors`.
        """
        excluded = query.excluded
        if query.kind is Kind.ITEM:
            excluded = excluded | {query.id.encode()}
        viewer_id = query.viewer_id
        if viewer_id is not None:
            # The user has just seen the recent items; the store may not know it yet.
            excluded = excluded | {one.encode() for one in query.recent}
            few = await _within(deadline, self._seen_store.seen_if_few(viewer_id, _FEW))
            if few is not None:
                excluded, viewer_id = excluded | few if excluded else few, None
        try:
            return await self._ranked(query, excluded, viewer_id, deadline)
        except ModelServerUnavailable:
            row = self._last_resort()
            if row is None:
                raise
            if viewer_id is not None:
                excluded = excluded | await _within(deadline, self._seen_store.seen(viewer_id))
            popular = _survivors(row, excluded, query.max_candidates)
            return Candidates(
                *popular, Source.POPULARITY, row.version, len(excluded), fallback=True
            )

    async def _ranked(
        self, query: Query, excluded: Set[bytes], viewer_id: str | None, deadline: float
    ) -> Candidates:
        """``viewer_id``: of one who has seen more than it pays to read, until it has to be."""
        k = query.max_candidates
        deepest = MAX_K if viewer_id is not None else min(k + len(excluded), MAX_K)
        depth = min(deepest, 2 * k + _FIRST_MARGIN)
        for fetches in count(1):
            row = await self._model.fetch(query, depth, deadline)
            if not row.known:
                self._refuse_unknown(query)
            unwanted = excluded
            if viewer_id is not None:
                among = self._seen_store.seen_among(viewer_id, row.item_ids)
                unwanted = excluded | await _within(deadline, among)
            item_ids, scores = _survivors(row, unwanted, k)
            if len(item_ids) == k or depth == deepest or _ended(row, depth):
                source = Source.MODEL if row.known else Source.POPULARITY
                return Candidates(item_ids, scores, source, row.version, len(excluded), fetches)
            if viewer_id is not None:
                seen = await _within(deadline, self._seen_store.seen(viewer_id))
                excluded, viewer_id = excluded | seen, None
                deepest = min(k + len(excluded), MAX_K)
            depth = min(deepest, max(depth * _DEEPER, _SECOND_DEPTH))
        raise AssertionError("the deepest fetch is enough")

    def _refuse_unknown(self, query: Query) -> None:
        is_item = query.kind is Kind.ITEM
        if is_item or not self._popular_for_unknown_users:
            others = ", nor any of the recent items" if query.recent else ""
            what = "item" if is_item else "user"
            raise UnknownQuery(f"the model does not know {what} {query.id!r}{others}")


async def _within(deadline: float, seen: Awaitable[T]) -> T:
    """What the seen store says, in time. Raises OutOfTime, SeenStoreUnavailable."""
    try:
        async with asyncio.timeout_at(deadline):
            return await seen
    except TimeoutError:
        raise OutOfTime("the deadline passed while seen items were read") from None


def _ended(row: Row, depth: int) -> bool:
    """Whether the catalogue has no more."""
    return len(row.item_ids) < depth or _FILLER in row.item_ids


def _survivors(row: Row, excluded: Set[bytes], k: int) -> tuple[Sequence[bytes], Sequence[float]]:
    """The first k of a row that are neither excluded, nor filler, nor there before."""
    item_ids, scores = row.item_ids, row.scores
    if excluded:
        kept = [one not in excluded for one in item_ids]
        item_ids, scores = list(compress(item_ids, kept)), list(compress(scores, kept))
    item_ids, scores = item_ids[:k], scores[:k]
    distinct = set(item_ids)
    if len(distinct) == len(item_ids) and _FILLER not in distinct:
        return item_ids, scores
    best: dict[bytes, float] = {}
    for item_id, score in zip(row.item_ids, row.scores, strict=True):
        if item_id != _FILLER and item_id not in excluded:
            best.setdefault(item_id, score)
    return list(best)[:k], list(best.values())[:k]
