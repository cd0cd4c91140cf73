"""A cache of rankings, for users who return before their ranking changes."""

import logging
from collections.abc import Callable

from cachetools import TTLCache

from query_service.core.query import Query, QueryKind, RankedItems
from query_service.core.retriever import Model

logger = logging.getLogger(__name__)

_CacheKey = tuple[QueryKind, str, tuple[str, ...], int]


class CachingModel:
    """A :class:`query_service.core.retriever.Model` that caches another model's rankings.

    Rankings are kept per query and depth, and unfiltered: the retriever filters them for each
    request. A ranking is used only while its version is the model's current one.
    """

    def __init__(
        self,
        model: Model,
        current_version: Callable[[], int | None],
        size: int,
        max_age_s: float,
        on_lookup: Callable[[bool], None] = lambda _hit: None,
    ) -> None:
        """Keep up to ``size`` rankings for ``max_age_s``, dropping the least recently used first.

        ``current_version`` returns the version of the model, or None if it is not known yet.
        ``on_lookup`` is called for each lookup, with True if the ranking was in the cache.
        """
        self._model = model
        self._current_version = current_version
        self._rankings: TTLCache[_CacheKey, RankedItems] = TTLCache(size, max_age_s)
        self._on_lookup = on_lookup
        self._hits = self._misses = 0

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:
        """Return the ranking from the cache if possible, otherwise from the model."""
        key = (query.kind, query.id, query.recent, depth)
        ranking = self._rankings.get(key)
        hit = ranking is not None and ranking.version == self._current_version()
        self._hits += hit
        self._misses += not hit
        self._on_lookup(hit)
        if ranking is None or not hit:
            ranking = self._rankings[key] = await self._model.fetch(query, depth, deadline)
        return ranking

    def log_hits_and_misses(self) -> None:
        """Log how many rankings were in the cache and how many were not."""
        logger.info("cache: %d hits, %d misses", self._hits, self._misses)
