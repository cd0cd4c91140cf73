"""Fetch candidates from the model until enough of them pass all filters.

The model server does not know the filters. The retriever therefore fetches more candidates than a
query asks for, drops the rejected ones, and fetches again to a greater depth if too few are left.
Enough are always found, because k plus the number of rejected items leaves k after filtering.
"""

from collections.abc import Callable, Sequence, Set
from itertools import compress
from typing import Protocol

from query_service.core.filters import MAX_LISTED_ITEMS, Eligibility, FilterFactory
from query_service.core.query import Candidates, Query, QueryKind, RankedItems, Source
from query_service.errors import ModelServerUnavailable, UnknownQuery
from serving_contract import FILLER_ITEM_ID, MAX_K

_FILLER = FILLER_ITEM_ID.encode()
#: The first fetch asks for twice as many candidates as the query wants, plus this many.
_FIRST_MARGIN = 100
#: The second fetch asks for at least this many candidates, unless fewer are known to be enough.
_SECOND_DEPTH = 8_192
#: Each later fetch asks for the number of candidates in the previous one times this factor.
_DEPTH_FACTOR = 4


class Model(Protocol):
    """Ranks the catalogue for a query."""

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:
        """Return the ``depth`` best items for a query, without applying any filter.

        ``deadline`` is a ``loop.time()`` value in seconds.

        Raises:
            RetrievalError: The model does not return a ranking.
        """


class Retriever:
    """Retrieves the best candidates that pass all filters of a query."""

    def __init__(
        self,
        model: Model,
        filters: Sequence[FilterFactory],
        *,
        popular_for_unknown_users: bool = True,
        popular_items: Callable[[], RankedItems | None] = lambda: None,
    ) -> None:
        """Combine a model with filters.

        Args:
            model: Ranks the catalogue.
            filters: The factories that create the filters of each query.
            popular_for_unknown_users: Return the most popular items to users who are unknown to the
                model, instead of raising UnknownQuery.
            popular_items: Returns the items to serve while the model is unavailable, or None if no
                fallback is configured.
        """
        self._model = model
        self._filters = filters
        self._popular_for_unknown_users = popular_for_unknown_users
        self._popular_items = popular_items

    async def retrieve(self, query: Query, deadline: float) -> Candidates:
        """Return the best candidates for one query that pass all of its filters.

        ``deadline`` is a ``loop.time()`` value in seconds.

        Raises:
            RetrievalError: The query cannot be answered; see :mod:`query_service.errors`.
        """
        eligibility = Eligibility(query, deadline, self._filters)
        if eligibility.unlisted_filters:
            await eligibility.list_rejected(MAX_LISTED_ITEMS)
        try:
            return await self._fetch_eligible(query, eligibility, deadline)
        except ModelServerUnavailable:
            popular = self._popular_items()
            if popular is None:
                raise
        return await _eligible_popular_items(popular, query.max_candidates, eligibility)

    async def _fetch_eligible(
        self, query: Query, eligibility: Eligibility, deadline: float
    ) -> Candidates:
        """Fetch from the model, at increasing depths, until enough candidates pass the filters."""
        k = query.max_candidates
        max_depth = _sufficient_depth(k, eligibility)
        depth = min(max_depth, 2 * k + _FIRST_MARGIN)
        fetches = 0
        while True:
            fetches += 1
            ranking = await self._model.fetch(query, depth, deadline)
            if not ranking.known:
                self._refuse_unknown(query)
            rejected = eligibility.listed_ids
            if eligibility.unlisted_filters:
                rejected = await eligibility.find_rejected(ranking.item_ids)
            item_ids, scores = _first_accepted(ranking, rejected, k)
            if len(item_ids) == k or depth == max_depth or _is_whole_catalogue(ranking, depth):
                source = Source.MODEL if ranking.known else Source.POPULARITY
                excluded = len(eligibility.listed_ids)
                return Candidates(item_ids, scores, source, ranking.version, excluded, fetches)
            if eligibility.unlisted_filters:
                await eligibility.list_rejected()
                max_depth = _sufficient_depth(k, eligibility)
            depth = min(max_depth, max(depth * _DEPTH_FACTOR, _SECOND_DEPTH))

    def _refuse_unknown(self, query: Query) -> None:
        """Raise UnknownQuery unless the most popular items may answer a query of this kind."""
        is_item = query.kind is QueryKind.ITEM
        if is_item or not self._popular_for_unknown_users:
            kind = "item" if is_item else "user"
            recent = ", nor any of the recent items" if query.recent else ""
            raise UnknownQuery(f"the model does not know {kind} {query.id!r}{recent}")


async def _eligible_popular_items(
    popular: RankedItems, k: int, eligibility: Eligibility
) -> Candidates:
    """Return the k most popular items that pass the filters, while the model is unavailable."""
    # List all rejected items: a heavy user has probably seen most of the popular ones.
    await eligibility.list_rejected()
    depth = _sufficient_depth(k, eligibility)
    popular = popular._replace(item_ids=popular.item_ids[:depth], scores=popular.scores[:depth])
    rejected = await eligibility.find_rejected(popular.item_ids)
    item_ids, scores = _first_accepted(popular, rejected, k)
    excluded = len(eligibility.listed_ids)
    return Candidates(item_ids, scores, Source.POPULARITY, popular.version, excluded, fallback=True)


def _sufficient_depth(k: int, eligibility: Eligibility) -> int:
    """Return a depth at which k candidates pass the filters, if the catalogue has that many."""
    if eligibility.unlisted_filters:
        return MAX_K
    return min(k + len(eligibility.listed_ids), MAX_K)


def _is_whole_catalogue(ranking: RankedItems, depth: int) -> bool:
    """Return True if the ranking, fetched with ``depth``, contains every item of the catalogue."""
    return len(ranking.item_ids) < depth or _FILLER in ranking.item_ids


def _first_accepted(
    ranking: RankedItems, rejected: Set[bytes], k: int
) -> tuple[Sequence[bytes], Sequence[float]]:
    """Return the first k distinct items that are neither rejected nor filler, and their scores."""
    item_ids, scores = ranking.item_ids, ranking.scores
    if rejected:
        accepted = [item_id not in rejected for item_id in item_ids]
        item_ids, scores = list(compress(item_ids, accepted)), list(compress(scores, accepted))
    item_ids, scores = item_ids[:k], scores[:k]
    distinct = set(item_ids)
    if len(distinct) == len(item_ids) and _FILLER not in distinct:
        return item_ids, scores
    # Rankings rarely have filler or duplicates among their best items, so this may be slow.
    score_by_id: dict[bytes, float] = {}
    for item_id, score in zip(ranking.item_ids, ranking.scores, strict=True):
        if item_id != _FILLER and item_id not in rejected:
            score_by_id.setdefault(item_id, score)
    return list(score_by_id)[:k], list(score_by_id.values())[:k]
