"""The results of the comparison: a table for each question, and a summary."""

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

OURS, PREDICT, BATCH = "shortlist", "bare Predict", f"BatchRetrieve of {BATCH_USERS}"
#: The numbers of requests in flight at which excluding seen items is measured.
SEEN_CONCURRENCIES = (1, 8)
_WITHOUT_MODEL_SERVER = ("fastapi", "chroma")
#: Cores in use by other programs from which on a measurement is not to be trusted.
_DISTURBED_CORES = 0.2
#: A peer, a question and a load.
_Case = tuple[str, str, object]


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes:
        samples: a row for each measurement, with the columns peer, question, load, round, and
            those of :class:`benchmarks.service.load.Sample`.
        recall: recall@100 by peer.
        errors: errors of single measurements.
        start_s: seconds until the query service was ready, for several starts.
        worker_mib: resident memory of the largest worker of the query service after the rounds.
    """

    samples: pd.DataFrame
    recall: dict[str, float]
    errors: list[str]
    start_s: list[float]
    worker_mib: list[float]

    def find(self, peer: str, question: str, load: object, figure: str = "rate") -> "pd.Series":
        """Return a figure of one case by round; empty if the case was not measured."""
        found = self.samples[
            (self.samples.peer == peer)
            & (self.samples.question == question)
            & (self.samples.load == str(load))
        ]
        return found.set_index("round")[figure]


@dataclass(frozen=True)
class Line:
    """One line of the summary, with a value for each round."""

    name: str
    unit: str
    values: list[float]

    def __str__(self) -> str:
        return f"{median_and_range(self.values, 3 if max(self.values) < 10 else 1)} {self.unit}"


def tables(results: Results, lines: Sequence[Line]) -> Iterator[Table]:
    """Yield a table per question with all peers and loads, then the summary."""
    columns = ("peer", "load", "recall", "req/s", "p50 ms", "p99 ms", "cores")
    for question, rows in results.samples.groupby("question", sort=False):
        table = reporting.table(f"{question}: median (min-max)", *columns)
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


def disturbances(results: Results) -> str:
    """Return the number of measurements during which other programs were busy."""
    count = int((results.samples.other_cores > _DISTURBED_CORES).sum())
    return (
        f"{count} of {len(results.samples)} measurements: other programs used more than "
        f"{_DISTURBED_CORES} of a core"
    )


def summarise(results: Results, concurrencies: Sequence[int]) -> list[Line]:
    """Return ours relative to the others; ratios are taken within each round."""
    lines = (
        *_against_others(results, concurrencies),
        *_other_loads(results),
        *_cost_of_exclusions(results, concurrencies),
        Line("start of the query service", "s", results.start_s),
        Line("largest resident memory of a worker", "MiB", results.worker_mib),
    )
    return [line for line in lines if line.values]


def _ratio(results: Results, name: str, ours: _Case, other: _Case, figure: str = "rate") -> Line:
    """Return a figure of ours divided by that of another case, for each round that has both."""
    ratios = results.find(*ours, figure) / results.find(*other, figure)
    return Line(name, "x", ratios.dropna().tolist())


def _against_others(results: Results, concurrencies: Sequence[int]) -> Iterator[Line]:
    highest = max(concurrencies)
    for peer in ("echo-aio", "echo-threads", "echo-core", "naive"):
        name = f"req/s at {highest}, against {peer}"
        yield _ratio(results, name, (OURS, PLAIN, highest), (peer, PLAIN, highest))
    for load in concurrencies:
        rates = {peer: results.find(peer, PLAIN, load).median() for peer in _WITHOUT_MODEL_SERVER}
        best = max(rates, key=lambda peer: 0.0 if math.isnan(rates[peer]) else rates[peer])
        name = f"req/s at {load}, against {best}"
        yield _ratio(results, name, (OURS, PLAIN, load), (best, PLAIN, load))
    name = "p50 at 1, against one bare Predict, both from Python"
    python = Load(1, in_python=True)
    yield _ratio(results, name, (OURS, PLAIN, python), (PREDICT, PLAIN, python), "p50_ms")


def _other_loads(results: Results) -> Iterator[Line]:
    open_loop = results.samples[results.samples.load.str.endswith("/s")]
    for figure, unit in (("rate", "answers/s"), ("p50_ms", "ms"), ("p99_ms", "ms")):
        name = f"{figure.removesuffix('_ms')} at half of the highest rate"
        yield Line(name, unit, open_loop[figure].tolist())
    batches = results.samples[results.samples.peer == BATCH]
    for load, samples in batches.groupby("load"):
        yield Line(f"{BATCH}, {load} in flight", "users/s", (BATCH_USERS * samples.rate).tolist())


def _cost_of_exclusions(results: Results, concurrencies: Sequence[int]) -> Iterator[Line]:
    for load in concurrencies:
        name = f"req/s at {load}, 100 exclusions against none"
        yield _ratio(results, name, (OURS, EXCLUDED, load), (OURS, PLAIN, load))
    for question in (SCATTERED_SEEN, NEAREST_SEEN):
        for load in SEEN_CONCURRENCIES:
            name = f"p50 at {load}, {question} against none"
            ours, without = (OURS, question, load), (OURS, NONE_SEEN, load)
            yield _ratio(results, name, ours, without, "p50_ms")
