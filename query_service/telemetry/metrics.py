"""Declares all metrics, which docs/observability.md explains to operators.

Every label has few values, which are known at startup. User and item ids are never label values.
"""

import asyncio
import mmap
import time
from pathlib import Path
from typing import NamedTuple

import grpc

from query_service.telemetry.registry import Counter, Histogram, MetricRegistry, SharedSamples
from serving_contract import BY_ITEM, BY_USER, BY_USER_AND_HISTORY

STATUSES = tuple(code.name for code in grpc.StatusCode)
SIGNATURES = (BY_USER, BY_ITEM, BY_USER_AND_HISTORY)
ORIGINS = ("model", "popularity")

_STATM = Path("/proc/self/statm")
_PROCESS_INTERVAL_S = 1.0

# The upper bounds of histogram buckets.
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
        """Declare the metrics of one worker. Without ``samples``, it is the only worker."""
        self.registry = registry = MetricRegistry(samples or SharedSamples(), worker)
        counter, counters = registry.counter, registry.counters
        gauge, histogram = registry.gauge, registry.histogram

        self.in_flight = gauge("shortlist_requests_in_flight", "Requests in flight.")
        self.batch_results = counters(
            "shortlist_batch_results_total",
            "Results in the responses of BatchRetrieve.",
            "status",
            STATUSES,
        )

        self.answers = counters(
            "shortlist_answers_total", "Lists of candidates returned.", "origin", ORIGINS
        )
        self.candidates = histogram(
            "shortlist_answer_candidates", "Candidates in an answer.", _CANDIDATES
        )
        self.excluded = histogram(
            "shortlist_excluded_items", "Item ids that an answer had to leave out.", _EXCLUDED
        )
        self.refetches = counter(
            "shortlist_refetches_total", "Deeper fetches because filters left too few candidates."
        )
        self.fallbacks = counter(
            "shortlist_fallbacks_total",
            "Answers with popular items while the model was unavailable.",
        )

        self.predicts = counters(
            "shortlist_predicts_total",
            "Predict calls to the model server that ended.",
            "status",
            STATUSES,
        )
        self.predict_duration = {
            signature: histogram(
                "shortlist_predict_duration_seconds",
                "Duration of a Predict, whatever its status.",
                _SECONDS,
                signature=signature,
            )
            for signature in SIGNATURES
        }
        self.predict_queries = histogram(
            "shortlist_predict_queries", "Queries in the batch of a Predict.", _QUERIES
        )
        self.predict_depth = histogram(
            "shortlist_predict_depth", "Candidates that a Predict fetches for each query.", _DEPTHS
        )
        self.waiting = gauge("shortlist_queries_waiting", "Queries that wait for a Predict.")
        self._cache_lookups = counters(
            "shortlist_cache_lookups_total", "Lookups in the cache.", "result", ("hit", "miss")
        )
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
        )
        self.seen_errors = counters(
            "shortlist_seen_store_errors_total",
            "Failed reads of seen items.",
            "reason",
            ("unavailable", "given_up"),
        )

        self.workers = gauge("shortlist_workers", "Worker processes.")
        self.worker_starts = counter(
            "shortlist_worker_starts_total", "Worker processes that were started."
        )
        self.resident = gauge(
            "shortlist_process_resident_memory_bytes", "Resident memory of all workers."
        )
        self.cpu = counter("shortlist_process_cpu_seconds_total", "CPU time of all workers.")

    def count_cache_lookup(self, hit: bool) -> None:
        """Count a lookup in the cache."""
        self._cache_lookups["hit" if hit else "miss"].add()

    def method(self, name: str) -> MethodMetrics:
        """Declare the metrics of a method. Must be called once for each method."""
        requests = self.registry.counters(
            "shortlist_requests_total",
            "Requests that have ended.",
            "status",
            STATUSES,
            method=name,
        )
        duration = self.registry.histogram(
            "shortlist_request_duration_seconds",
            "Time from a request's arrival to its response or status.",
            _SECONDS,
            method=name,
        )
        return MethodMetrics(requests, duration)

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
