"""Declares all metrics, which docs/observability.md explains to operators.

Every label has few values, which are known at startup. User and item ids are never label values.
"""

import asyncio
import mmap
import time
from pathlib import Path
from typing import NamedTuple

from query_service.telemetry.registry import Counter, Histogram, MetricRegistry, SharedSamples
from serving_contract import BY_ITEM, BY_USER, BY_USER_AND_HISTORY

#: The names of gRPC's status codes, by number.
STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
SIGNATURES = (BY_USER, BY_ITEM, BY_USER_AND_HISTORY)
ORIGINS = ("model", "popularity")

_STATM = Path("/proc/self/statm")
_PROCESS_INTERVAL_S = 1.0
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_READ_SECONDS = (0.0001, 0.00025, *_SECONDS)
_QUERIES = tuple(float(2**power) for power in range(9))
_DEPTHS = tuple(float(16 * 4**power) for power in range(9))
_CANDIDATES = (0.0, 1.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1_000.0)
_EXCLUDED = (0.0, 1.0, 10.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)


class MethodMetrics(NamedTuple):
    """The metrics of one method: the number of requests by status, and their durations."""

    requests: dict[str, Counter]
    duration: Histogram


class Metrics:
    """The metrics of one worker."""

    def __init__(self, samples: SharedSamples | None = None, worker: int = 0) -> None:
        """Declare the metrics of a worker, which is the only one if ``samples`` is None."""
        self.registry = registry = MetricRegistry(samples or SharedSamples(), worker)
        counter, gauge, histogram = registry.counter, registry.gauge, registry.histogram

        self._requests = counter(
            "shortlist_requests_total", "Requests that have ended.", "method", "status"
        )
        self._duration = histogram(
            "shortlist_request_duration_seconds",
            "Time from a request's arrival to its response or status.",
            *(_SECONDS, "method"),
        )
        self.in_flight = gauge("shortlist_requests_in_flight", "Requests in flight.")
        results = counter(
            "shortlist_batch_results_total", "Results in the responses of BatchRetrieve.", "status"
        )
        self.batch_results = {status: results.labelled(status) for status in STATUSES}

        answers = counter("shortlist_answers_total", "Lists of candidates returned.", "origin")
        self.answers = {origin: answers.labelled(origin) for origin in ORIGINS}
        self.candidates = histogram(
            "shortlist_answer_candidates", "Candidates in an answer.", _CANDIDATES
        ).labelled()
        self.excluded = histogram(
            "shortlist_excluded_items", "Item ids that an answer had to leave out.", _EXCLUDED
        ).labelled()
        self.refetches = counter(
            "shortlist_refetches_total", "Deeper fetches because filters left too few candidates."
        ).labelled()
        self.fallbacks = counter(
            "shortlist_fallbacks_total",
            "Answers with popular items while the model was unavailable.",
        ).labelled()

        predicts = counter(
            "shortlist_predicts_total", "Predict calls to the model server that ended.", "status"
        )
        self.predicts = {status: predicts.labelled(status) for status in STATUSES}
        durations = histogram(
            "shortlist_predict_duration_seconds",
            "Duration of a Predict, whatever its status.",
            *(_SECONDS, "signature"),
        )
        self.predict_duration = {name: durations.labelled(name) for name in SIGNATURES}
        self.predict_queries = histogram(
            "shortlist_predict_queries", "Queries in the batch of a Predict.", _QUERIES
        ).labelled()
        self.predict_depth = histogram(
            "shortlist_predict_depth", "Candidates that a Predict fetches for each query.", _DEPTHS
        ).labelled()
        self.waiting = gauge("shortlist_queries_waiting", "Queries that wait for a Predict.")
        lookups = counter("shortlist_cache_lookups_total", "Lookups in the cache.", "result")
        self.cache_hits, self.cache_misses = lookups.labelled("hit"), lookups.labelled("miss")
        self.model_version = gauge(
            "shortlist_model_version", "Version of the model; 0 before the first is known.", max
        )
        self.serving = gauge(
            "shortlist_serving", "1 if the health of all workers is SERVING, else 0.", min
        )

        self.seen_duration = histogram(
            "shortlist_seen_store_read_duration_seconds",
            "Duration of reading a user's seen items, whether it succeeded or not.",
            _READ_SECONDS,
        ).labelled()
        errors = counter(
            "shortlist_seen_store_errors_total", "Failed reads of seen items.", "reason"
        )
        self.seen_unavailable = errors.labelled("unavailable")
        self.seen_given_up = errors.labelled("given_up")

        self.workers = gauge("shortlist_workers", "Worker processes.")
        self.worker_starts = counter(
            "shortlist_worker_starts_total", "Worker processes that were started."
        ).labelled()
        self.resident = gauge(
            "shortlist_process_resident_memory_bytes", "Resident memory of all workers."
        )
        self.cpu = counter(
            "shortlist_process_cpu_seconds_total", "CPU time of all workers."
        ).labelled()

    def cache_lookup(self, hit: bool) -> None:
        """Count a lookup in the cache."""
        (self.cache_hits if hit else self.cache_misses).add()

    def method(self, name: str) -> MethodMetrics:
        """Declare the metrics of a method."""
        requests = {status: self._requests.labelled(name, status) for status in STATUSES}
        return MethodMetrics(requests, self._duration.labelled(name))

    async def report_process(self) -> None:
        """Mark this worker as alive, and report its memory and CPU time until cancelled."""
        self.worker_starts.add()
        self.workers.set(1)
        self.registry.mark_alive()
        reported_s = 0.0
        while True:
            used_s = time.process_time()
            self.cpu.add(used_s - reported_s)
            reported_s = used_s
            self.resident.set(_resident_bytes())
            await asyncio.sleep(_PROCESS_INTERVAL_S)


def _resident_bytes() -> int:
    """Return the resident memory of this process, or 0 where /proc does not exist."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * mmap.PAGESIZE
