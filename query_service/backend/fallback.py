"""The most popular items, kept for when the model server is away."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from query_service.backend.batching import BatchModel
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import RetrievalError, SignatureMissing

logger = logging.getLogger(__name__)

#: No user of any model: it gets the most popular items.
_NOBODY = "\0nobody"
_TIMEOUT_S = 2.0
_INTERVAL_S = 0.5


class PopularItems:
    """What the model gives for a user it does not know, of the version that it had last."""

    def __init__(self, model: BatchModel, version: Callable[[], int | None], depth: int) -> None:
        """Keep the ``depth`` most popular of ``model``; ``version``: what is known of its own."""
        self._model = model
        self._version = version
        self._query = Query(QueryKind.USER, _NOBODY, depth)
        #: None until the model has been asked.
        self.row: RankedItems | None = None
        self._without: int | None = None  # the version that has none

    async def run(self) -> None:
        """Follow the model's versions until cancelled."""
        while True:
            with contextlib.suppress(RetrievalError):
                await self.update()
            await asyncio.sleep(_INTERVAL_S)

    async def update(self) -> None:
        """Ask, if the model has another version than before.

        Raises:
            RetrievalError: it does not answer.
        """
        version = self._version()
        if version in (None, self._without) or (self.row and self.row.version == version):
            return
        deadline = asyncio.get_running_loop().time() + _TIMEOUT_S
        depth = self._query.max_candidates
        try:
            [row] = await self._model.fetch_batch(QueryKind.USER, [self._query], [depth], deadline)
        except SignatureMissing:
            self._without = version
            logger.warning("version %d knows no users: there is nothing to fall back to", version)
            return
        if not row.known:
            self.row = row
