"""Results of comparing Shortlist with other servers: one table per kind of request, a summary."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.table import Table

from benchmarks import reporting
from benchmarks.reporting import median_and_range
from benchmarks.service.catalogue import EXCLUDED, NEAREST_SEEN, NONE_SEEN, PLAIN, SCATTERED_SEEN
from benchmarks.service.load import Load
from benchmarks.service.peers import BATCH_USERS

#: Names of peers: the query service, the model server called directly, and BatchRetrieve calls.
OURS, PREDICT, BATCH = "shortlist", "bare Predict", f"BatchRetrieve of {BATCH_USERS}"
#: Requests with ``exclude_seen`` are measured with these numbers of requests in flight.
SEEN_CONCURRENCIES = (1, 8)
#: Peers that search the index in their own process.
_SINGLE_PROCESS_PEERS = ("fastapi", "chroma")
#: A measurement is suspect if other programs used more than this many cores.
_MAX_OTHER_CORES = 0.2
#: Arguments of :meth:`Results.find`: a peer, a kind of request, a load (int: requests in flight).
_Case = tuple[str, str, int | Load]


@dataclass(frozen=True)
class Results:
    """The results of one run of the benchmark.

    Attributes:
        samples: one row per measurement, with the columns peer, request_kind, load and round, and
            the fields of :class:`benchmarks.service.load.Sample`.
        recall: recall@100 by peer.
        errors: one message for each measurement that failed.
        startup_s: seconds until the query service was ready, one value per start.
        worker_mib: resident memory of the query service's largest worker after the last round;
            empty if the query service was not measured.
    """

    samples: pd.DataFrame
    recall: dict[str, float]
    errors: list[str]
    startup_s: list[float]
    worker_mib: list[float]

    def find(self, peer: str, kind: str, load: int | Load, column: str = "rate") -> "pd.Series":
        """Return one column of the matching samples, indexed by round; empty without samples."""
        matching = self.samples[
            (self.samples.peer == peer)
            & (self.samples.request_kind == kind)
            & (self.samples.load == str(load))
        ]
        return matching.set_index("round")[column]


@dataclass(frozen=True)
class Line:
    """One line of the summary, with one value per round, or per start of the query service."""

    name: str
    unit: str
    values: list[float]

    def __str__(self) -> str:
        return f"{median_and_range(self.values, 3 if max(self.values) < 10 else 1)} {self.unit}"


def tables(results: Results, lines: Sequence[Line]) -> Iterator[Table]:
    """Yield one table per kind of request, with all peers and loads, and then the summary."""
    columns = ("peer", "load", "recall", "req/s", "p50 ms", "p99 ms", "cores")
    for request_kind, rows in results.samples.groupby("request_kind", sort=False):
        table = reporting.table(f"{request_kind}: median (min-max)", *columns)
        for (peer, load), samples in rows.groupby(["peer", "load"], sort=False):
            table.add_row(
                str(peer),
                str(load),
                f"{results.recall[peer]:.3f}" if peer in results.recall else "-",
                median_and_range(samples.rate.tolist(), 0),
                median_and_range(samples.p50_ms.tolist(), 2),
                median_and_range(samples.p99_ms.tolist(), 2),
                f"{samples.cores.median():.1f}",
            )
        yield table
    table = reporting.table("summary: median of the rounds (min-max)", "figure", "value")
    for line in lines:
        table.add_row(line.name, str(line))
    yield table


def describe_disturbances(results: Results) -> str:
    """Return a sentence with the number of measurements that other programs disturbed."""
    count = int((results.samples.other_cores > _MAX_OTHER_CORES).sum())
    return (
        f"During {count} of {len(results.samples)} measurements, other programs used more than "
        f"{_MAX_OTHER_CORES} of a core."
    )


def summarise(results: Results, concurrencies: Sequence[int]) -> list[Line]:
    """Return Shortlist's own results, and ratios to other peers' results from the same round."""
    lines = (
        *_ratios_to_peers(results, concurrencies),
        *_open_loop_and_batches(results),
        *_cost_of_exclusions(results, concurrencies),
        Line("startup time of the query service", "s", results.startup_s),
        Line("resident memory of the largest worker", "MiB", results.worker_mib),
    )
    return [line for line in lines if line.values]


def _ratio(results: Results, name: str, ours: _Case, other: _Case, column: str = "rate") -> Line:
    """Return ``column`` of the case ``ours`` divided by that of ``other``, per round with both."""
    ratios = results.find(*ours, column) / results.find(*other, column)
    return Line(name, "x", ratios.dropna().tolist())


def _ratios_to_peers(results: Results, concurrencies: Sequence[int]) -> Iterator[Line]:
    highest = max(concurrencies)
    for peer in ("echo-aio", "echo-threads", "echo-core", "naive"):
        name = f"req/s with {highest} in flight, relative to {peer}"
        yield _ratio(results, name, (OURS, PLAIN, highest), (peer, PLAIN, highest))
    for load in concurrencies:
        rates = {peer: results.find(peer, PLAIN, load).median() for peer in _SINGLE_PROCESS_PEERS}
        best = max(rates, key=lambda peer: 0.0 if math.isnan(rates[peer]) else rates[peer])
        name = f"req/s with {load} in flight, relative to {best}"
        yield _ratio(results, name, (OURS, PLAIN, load), (best, PLAIN, load))
    name = "p50 with 1 in flight, relative to a bare Predict, both called from Python"
    python = Load(1, in_python=True)
    yield _ratio(results, name, (OURS, PLAIN, python), (PREDICT, PLAIN, python), "p50_ms")


def _open_loop_and_batches(results: Results) -> Iterator[Line]:
    open_loop = results.samples[results.samples.load.str.endswith("/s")]
    for column, unit in (("rate", "answers/s"), ("p50_ms", "ms"), ("p99_ms", "ms")):
        name = f"{column.removesuffix('_ms')} at half of {OURS}'s highest rate"
        yield Line(name, unit, open_loop[column].tolist())
    batches = results.samples[results.samples.peer == BATCH]
    for load, samples in batches.groupby("load"):
        yield Line(f"{BATCH}, {load} in flight", "users/s", (BATCH_USERS * samples.rate).tolist())


def _cost_of_exclusions(results: Results, concurrencies: Sequence[int]) -> Iterator[Line]:
    for load in concurrencies:
        name = f"req/s with {load} in flight, 100 exclusions relative to none"
        yield _ratio(results, name, (OURS, EXCLUDED, load), (OURS, PLAIN, load))
    for request_kind in (SCATTERED_SEEN, NEAREST_SEEN):
        for load in SEEN_CONCURRENCIES:
            name = f"p50 with {load} in flight, {request_kind} relative to {NONE_SEEN}"
            ours, without = (OURS, request_kind, load), (OURS, NONE_SEEN, load)
            yield _ratio(results, name, ours, without, "p50_ms")
