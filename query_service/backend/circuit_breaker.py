"""A circuit breaker, which stops the requests to a model server that does not answer.

While the circuit is closed, every batch is sent. After several failures in a row it opens, and
batches fail immediately for a while. Then one Predict is sent as a trial: if it succeeds, the
circuit closes; otherwise it stays open for longer. The pattern is from Nygard, Release It! (2007).
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from query_service.backend.batch import BatchModel
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerUnavailable, OutOfTime, RetrievalError

logger = logging.getLogger(__name__)

#: The circuit opens after this many failures in a row.
FAILURE_THRESHOLD = 5
#: The time from opening to the first trial. It doubles with each failed trial, up to the maximum.
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 1.0
#: A timeout counts as a failure only if the Predict had at least this much time, because a shorter
#: timeout says little about the server. It also counts if the server has been silent for this
#: long since the last failure: queries that waited for a hanging Predict have little time left.
MIN_COUNTED_TIMEOUT_S = 0.1


class CircuitBreaker:
    """Opens the circuit to a model that fails repeatedly, and closes it when the model recovers.

    It is a :class:`query_service.backend.batch.BatchModel` in front of another one.
    """

    def __init__(self, model: BatchModel) -> None:
        """Start with a closed circuit to ``model``."""
        self._model = model
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        #: The loop time of the last failure; meaningful only after a failure.
        self._failed_at = 0.0
        #: The loop time from which a trial is allowed; meaningful only while open.
        self._trial_from = 0.0
        self._trial_in_flight = False

    def check(self) -> None:
        """Raise ModelServerUnavailable if a batch would not be sent now.

        Called before a query joins a batch, so that no query waits for the trial.
        """
        if not self._is_open:
            return
        if self._trial_in_flight or asyncio.get_running_loop().time() < self._trial_from:
            raise ModelServerUnavailable("the model server has stopped answering")

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        """Call the model. Raises ModelServerUnavailable while the circuit is open."""
        self.check()
        self._trial_in_flight = is_trial = self._is_open
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            rankings = await self._model.fetch_batch(kind, queries, depths, deadline)
        except ModelServerUnavailable:
            self._record_failure()
            raise
        except OutOfTime:
            self._record_timeout(deadline - began)
            raise
        except asyncio.CancelledError:
            # A cancellation before the deadline, because nobody waits any more, is not a failure.
            if loop.time() >= deadline:
                self._record_timeout(deadline - began)
            raise
        except RetrievalError:
            # The model server answered, even if only with an error.
            self._record_success()
            raise
        finally:
            if is_trial:
                self._trial_in_flight = False
        self._record_success()
        return rankings

    @property
    def _is_open(self) -> bool:
        return self._failures >= FAILURE_THRESHOLD

    def _record_timeout(self, timeout_s: float) -> None:
        """Count a timeout as a failure if it was long enough to blame the model server."""
        silent_s = asyncio.get_running_loop().time() - self._failed_at if self._failures else 0.0
        # If no time was left, the Predict was not sent.
        if timeout_s > 0 and max(timeout_s, silent_s) >= MIN_COUNTED_TIMEOUT_S:
            self._record_failure()

    def _record_failure(self) -> None:
        """Count a failure, and open the circuit after too many in a row."""
        self._failures += 1
        self._failed_at = asyncio.get_running_loop().time()
        if not self._is_open:
            return
        if self._failures == FAILURE_THRESHOLD:
            logger.error("the model server has stopped answering; requests fail until it returns")
        # The random pause keeps several instances of the service from sending trials in lockstep.
        self._trial_from = self._failed_at + self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)

    def _record_success(self) -> None:
        """Close the circuit."""
        if self._is_open:
            logger.info("the model server answers again")
        self._failures, self._pause_s = 0, FIRST_PAUSE_S
