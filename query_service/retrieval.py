"""The core: which candidates answer a query. Neither gRPC nor protobuf here.

Exclusion is exact. The model server knows no exclusions, so more is fetched than was
asked for, what is excluded is dropped, and where that leaves too few the fetch is
repeated deeper; k candidates and all exclusions is always deep enough.

Item ids are UTF-8 bytes here, as they are on both wires: none is ever decoded.
"""

import asyncio
import enum
from collections.abc import Sequence, Set
from itertools import compress, count
from typing import NamedTuple, Protocol

from query_service.errors import OutOfTime, UnknownQuery
from serving_contract import FILLER_ITEM_ID, MAX_K

_FILLER = FILLER_ITEM_ID.encode()
_FIRST_MARGIN = 100
#: A second fetch goes as deep as can be needed, up to so many; further ones this much deeper.
_SECOND_DEPTH = 8_192
_DEEPER = 4


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
    """

    item_ids: Sequence[bytes]
    scores: Sequence[float]
    source: Source
    version: int
    excluded: int = 0
    fetches: int = 1


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

    async def close(self) -> None:
        """Free what is held."""


class Retriever:
    """Answers queries."""

    def __init__(
        self, model: Model, seen_store: SeenStore, *, popular_for_unknown_users: bool = True
    ) -> None:
        self._model = model
        self._seen_store = seen_store
        self._popular_for_unknown_users = popular_for_unknown_users

    async def retrieve(self, query: Query, deadline: float) -> Candidates:
        """The candidates for one query. ``deadline`` is in seconds of ``loop.time()``.

        Raises:
            RetrievalError: see :mod:`query_service.errors`.
        """
        excluded = query.excluded
        if query.kind is Kind.ITEM:
            excluded = excluded | {query.id.encode()}
        if query.viewer_id is not None:
            excluded = await self._with_seen(query.viewer_id, query, excluded, deadline)
        k = query.max_candidates
        deepest = min(k + len(excluded), MAX_K)
        depth = min(deepest, 2 * k + _FIRST_MARGIN)
        for fetches in count(1):
            row = await self._model.fetch(query, depth, deadline)
            if not row.known:
                self._refuse_unknown(query)
            item_ids, scores = _survivors(row, excluded, k)
            if len(item_ids) == k or depth == deepest or _ended(row, depth):
                source = Source.MODEL if row.known else Source.POPULARITY
                return Candidates(item_ids, scores, source, row.version, len(excluded), fetches)
            depth = min(deepest, max(depth * _DEEPER, _SECOND_DEPTH))
        raise AssertionError("the deepest fetch is enough")

    async def _with_seen(
        self, viewer_id: str, query: Query, excluded: Set[bytes], deadline: float
    ) -> Set[bytes]:
        try:
            async with asyncio.timeout_at(deadline):
                seen = await self._seen_store.seen(viewer_id)
        except TimeoutError:
            raise OutOfTime("the deadline passed while seen items were read") from None
        # The user has just seen the recent items; the store may not know it yet.
        others = excluded | {one.encode() for one in query.recent}
        return seen | others if others else seen

    def _refuse_unknown(self, query: Query) -> None:
        is_item = query.kind is Kind.ITEM
        if is_item or not self._popular_for_unknown_users:
            others = ", nor any of the recent items" if query.recent else ""
            what = "item" if is_item else "user"
            raise UnknownQuery(f"the model does not know {what} {query.id!r}{others}")


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
