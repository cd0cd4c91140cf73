"""Remembers what the model server gave: for users who come back before their answer changes."""

import logging
from collections.abc import Callable

from cachetools import TTLCache

from query_service.core.query import Query, QueryKind, RankedItems
from query_service.core.retriever import Model
from query_service.telemetry.observer import Observer

logger = logging.getLogger(__name__)

_Key = tuple[QueryKind, str, tuple[str, ...], int]


class CachingModel:
    """A :class:`query_service.core.retriever.Model` that asks another one what it does not know.

    Kept are the model's rows, per query and depth: exclusions are applied to them anew each time. A
    row is used only while the model's version is the one that gave it.
    """

    def __init__(
        self,
        model: Model,
        version: Callable[[], int | None],
        size: int,
        age_s: float,
        observer: Observer | None = None,
    ) -> None:
        """Put it in front of ``model``.

        Args:
            model: asked for what is not here.
            version: what is known of the version that the model has now.
            size: rows that are kept, the least recently used go first.
            age_s: seconds after which a row is forgotten.
            observer: told of hits and misses.
        """
        self._model = model
        self._metrics = (observer or Observer()).metrics
        self._version = version
        self._rows: TTLCache[_Key, RankedItems] = TTLCache(size, age_s)
        #: Rows that were here, and rows that had to be asked for.
        self.hits = 0
        self.misses = 0

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:
        """From here, or from the model."""
        key = (query.kind, query.id, query.recent, depth)
        row = self._rows.get(key)
        if row is not None and row.version == self._version():
            self.hits += 1
            self._metrics.cache_hits.add()
            return row
        self.misses += 1
        self._metrics.cache_misses.add()
        row = await self._model.fetch(query, depth, deadline)
        self._rows[key] = row
        return row

    def log(self) -> None:
        """Say how often it helped."""
        asked = self.hits + self.misses
        share = self.hits / asked if asked else 0.0
        logger.info("cache: %d hits of %d (%.0f %%)", self.hits, asked, share * 100)
