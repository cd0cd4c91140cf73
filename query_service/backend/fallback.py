"""Keeps the most popular items as a fallback while the model server is unavailable."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from query_service.backend.batch import BatchModel
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import RetrievalError, SignatureMissing

logger = logging.getLogger(__name__)

#: A user id that no model knows, so that the model answers with the most popular items.
_UNKNOWN_USER = "\0nobody"
_FETCH_TIMEOUT_S = 2.0
_POLL_INTERVAL_S = 0.5


class PopularItems:
    """Keeps the popularity ranking of the latest model version.

    Attributes:
        ranking: The most popular items; None until the model has returned them.
    """

    def __init__(
        self, model: BatchModel, current_version: Callable[[], int | None], depth: int
    ) -> None:
        """Keep the ``depth`` most popular items of a model.

        ``current_version`` returns the version of the model, or None if it is not known yet.
        """
        self._model = model
        self._current_version = current_version
        self._query = Query(QueryKind.USER, _UNKNOWN_USER, depth)
        self.ranking: RankedItems | None = None
        self._version_without_users: int | None = None

    async def run(self) -> None:
        """Fetch the ranking of each new version, until cancelled."""
        while True:
            with contextlib.suppress(RetrievalError):
                await self.update()
            await asyncio.sleep(_POLL_INTERVAL_S)

    async def update(self) -> None:
        """Fetch the ranking if the model has a new version.

        Raises:
            RetrievalError: The model does not answer.
        """
        version = self._current_version()
        if version in (None, self._version_without_users):
            return
        if self.ranking and self.ranking.version == version:
            return
        deadline = asyncio.get_running_loop().time() + _FETCH_TIMEOUT_S
        depth = self._query.max_candidates
        try:
            [ranking] = await self._model.fetch_batch(
                QueryKind.USER, [self._query], [depth], deadline
            )
        except SignatureMissing:
            self._version_without_users = version
            logger.warning(
                "model version %d has no signature for users, so there is no fallback ranking",
                version,
            )
            return
        if not ranking.known:
            self.ranking = ranking
