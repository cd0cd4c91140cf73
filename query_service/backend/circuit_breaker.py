"""Stops asking a model server that does not answer, and tries again by itself.

The pattern is Nygard's circuit breaker (Release It!, 2007). Closed, everything is asked. After so
many failures in a row it opens: nothing is asked for a while, and who comes is told so at once.
Then one Predict is let through: if it succeeds the breaker closes, else it stays open for longer.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from query_service.backend.batching import BatchModel
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerUnavailable, OutOfTime, RetrievalError

logger = logging.getLogger(__name__)

FAILURES = 5
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
#: A Predict that was given less time says nothing about the model server, unless the last failure
#: is so long ago and there has been no answer since: what has waited for a Predict that hangs has
#: little time left for its own.
FAIR_TIME_S = 0.1


class BreakingModel:
    """A :class:`query_service.backend.batching.BatchModel` in front of another one."""

    def __init__(self, model: BatchModel) -> None:
        self._model = model
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._failed_at = 0.0  # in loop time, as the next; meaningless without failures
        self._closed_from = 0.0  # meaningless with fewer
        self._trying = False

    def check(self) -> None:
        """For who has not joined a Predict yet: not to wait for the one that tries.

        Raises:
            ModelServerUnavailable: it would not be asked now.
        """
        opened = self._failures >= FAILURES
        if opened and (self._trying or asyncio.get_running_loop().time() < self._closed_from):
            raise ModelServerUnavailable("the model server has stopped answering")

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        """From the model.

        Raises:
            ModelServerUnavailable: it was not asked, because it has not answered before.
        """
        self.check()
        self._trying = opened = self._failures >= FAILURES
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            rows = await self._model.fetch_batch(kind, queries, depths, deadline)
        except ModelServerUnavailable:
            self._failed()
            raise
        except OutOfTime:
            self._ran_out(deadline - began)
            raise
        except asyncio.CancelledError:
            # Before its deadline nobody wanted it any more, which is no failure.
            if loop.time() >= deadline:
                self._ran_out(deadline - began)
            raise
        except RetrievalError:
            # An answer, if not a good one.
            self._succeeded()
            raise
        finally:
            if opened:
                self._trying = False
        self._succeeded()
        return rows

    def _ran_out(self, given_s: float) -> None:
        silent_s = asyncio.get_running_loop().time() - self._failed_at if self._failures else 0.0
        # Without any time it was not asked.
        if given_s > 0 and max(given_s, silent_s) >= FAIR_TIME_S:
            self._failed()

    def _failed(self) -> None:
        self._failures += 1
        self._failed_at = asyncio.get_running_loop().time()
        if self._failures < FAILURES:
            return
        if self._failures == FAILURES:
            logger.error("the model server has stopped answering: it is asked less often")
        # Not all instances of the service at the same moment.
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        self._closed_from = self._failed_at + pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _succeeded(self) -> None:
        if self._failures >= FAILURES:
            logger.info("the model server answers again")
        self._failures, self._pause_s = 0, FIRST_PAUSE_S
