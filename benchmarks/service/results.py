"""The measured cases, and ours relative to the others."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.reporting import median_and_range
from benchmarks.service.catalogue import (
    EXCLUDED,
    NEAREST_SEEN,
    NONE_SEEN,
    PLAIN,
    SCATTERED_SEEN,
)
from benchmarks.service.load import Load, Sample

OURS, PREDICT, BATCH = "shortlist", "bare Predict", "BatchRetrieve of 256"
H2LOAD, PYTHON = "h2load", "Python"
_USERS_PER_BATCH = 256
_WITHOUT_MODEL_SERVER = ("fastapi", "chroma")


@dataclass
class Case:
    """One case that is measured, and its samples by round."""

    peer: str
    question: str
    load: Load
    caller: str = H2LOAD
    samples: dict[int, Sample] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = f" at {self.load.rate:,.0f} req/s" if self.load.rate else ""
        return f"{self.peer}, {self.question}, {self.load.concurrency} in flight{rate}"


@dataclass
class Results:
    """The results of a run.

    Attributes:
        cases: the cases in the order of the report.
        notes: notes by peer.
        recall: recall@100 by peer.
        errors: errors of single measurements.
        start_seconds: seconds until the query service was ready, for several starts.
    """

    cases: list[Case]
    notes: dict[str, str]
    recall: dict[str, float]
    errors: list[str] = field(default_factory=list)
    start_seconds: list[float] = field(default_factory=list)

    def samples(
        self, peer: str, question: str, concurrency: int, caller: str = H2LOAD
    ) -> dict[int, Sample]:
        """Return the samples of a closed loop by round; empty if it was not measured."""
        wanted = (peer, question, Load(concurrency), caller)
        for one in self.cases:
            if (one.peer, one.question, one.load, one.caller) == wanted:
                return one.samples
        return {}

    def concurrencies(self, peer: str, question: str) -> list[int]:
        """Return the concurrencies at which h2load measured a peer."""
        return [
            one.load.concurrency
            for one in self.cases
            if (one.peer, one.question, one.caller, one.load.rate) == (peer, question, H2LOAD, 0)
        ]

    def highest_rate(self, peer: str) -> float:
        """Return the highest median rate of a peer."""
        medians = [
            _median(samples, rate_of)
            for concurrency in self.concurrencies(peer, PLAIN)
            if (samples := self.samples(peer, PLAIN, concurrency))
        ]
        return max(medians, default=0.0)


@dataclass
class Line:
    """One line of the summary, with a value of every round."""

    what: str
    unit: str
    values: list[float]

    def __str__(self) -> str:
        return median_and_range(self.values, 3 if max(self.values) < 10 else 1)


Figure = Callable[[Sample], float]


def rate_of(sample: Sample) -> float:
    """Return answers per second."""
    return sample.rate


def p50_of(sample: Sample) -> float:
    """Return the median latency in ms."""
    return sample.p50_ms


def p99_of(sample: Sample) -> float:
    """Return the 99th percentile of the latency in ms."""
    return sample.p99_ms


def summarise(results: Results) -> list[Line]:
    """Return ours relative to the others; ratios are taken within each round."""
    if not results.concurrencies(OURS, PLAIN):
        return []
    lines = (
        *_against_others(results),
        *_against_predict(results),
        *_other_loads(results),
        *_process_figures(results),
        *_cost_of_exclusions(results),
    )
    return [line for line in lines if line.values]


def _against_others(results: Results) -> Iterator[Line]:
    loads = results.concurrencies(OURS, PLAIN)
    highest = max(loads)
    ours = results.samples(OURS, PLAIN, highest)
    for peer in ("echo-aio", "echo-threads", "echo-core", "naive"):
        ratios = _ratios(ours, results.samples(peer, PLAIN, highest), rate_of)
        yield Line(f"req/s at {highest}, against {peer}", "x", ratios)
    for question in (PLAIN, EXCLUDED):
        for load in loads:
            every = {name: results.samples(name, question, load) for name in _WITHOUT_MODEL_SERVER}
            known = {name: samples for name, samples in every.items() if samples}
            if not known:
                continue
            best = max(known, key=lambda name: _median(known[name], rate_of))
            ratios = _ratios(results.samples(OURS, question, load), known[best], rate_of)
            yield Line(f"req/s at {load}, {question}, against {best}", "x", ratios)


def _against_predict(results: Results) -> Iterator[Line]:
    for caller in (H2LOAD, PYTHON):
        ours = results.samples(OURS, PLAIN, 1, caller)
        ratios = _ratios(ours, results.samples(PREDICT, PLAIN, 1, caller), p50_of)
        yield Line(f"p50 at 1, against one bare Predict, both by {caller}", "x", ratios)


def _other_loads(results: Results) -> Iterator[Line]:
    for case in results.cases:
        samples = case.samples.values()
        if case.load.rate:
            what = f"at half of the highest rate, {case.load.rate:,.0f} req/s sent"
            for figure, name in ((rate_of, "answers/s"), (p50_of, "p50"), (p99_of, "p99")):
                unit = "" if figure is rate_of else "ms"
                yield Line(f"{name} {what}", unit, [figure(one) for one in samples])
        if case.peer == BATCH:
            users = [_USERS_PER_BATCH * one.rate for one in samples]
            yield Line(f"users/s, {BATCH}, {case.load.concurrency} in flight", "", users)


def _process_figures(results: Results) -> Iterator[Line]:
    yield Line("start of the query service", "s", results.start_seconds)
    memory_mib = [
        sample.largest_mib["service"]
        for case in results.cases
        if case.peer == OURS
        for sample in case.samples.values()
    ]
    what = "largest resident memory of a worker of the query service"
    yield Line(what, "MiB", sorted(memory_mib)[-1:])


def _cost_of_exclusions(results: Results) -> Iterator[Line]:
    for load in results.concurrencies(OURS, PLAIN):
        without = results.samples(OURS, PLAIN, load)
        ratios = _ratios(results.samples(OURS, EXCLUDED, load), without, rate_of)
        yield Line(f"req/s at {load}, 100 exclusions against none", "x", ratios)
    for question in (SCATTERED_SEEN, NEAREST_SEEN):
        for load in results.concurrencies(OURS, question):
            ours, none_seen = (results.samples(OURS, one, load) for one in (question, NONE_SEEN))
            for figure, name in ((p50_of, "p50"), (rate_of, "req/s")):
                ratios = _ratios(ours, none_seen, figure)
                yield Line(f"{name} at {load}, {question} against none", "x", ratios)


def _ratios(ours: dict[int, Sample], others: dict[int, Sample], of: Figure) -> list[float]:
    """Return ours divided by the other's, for each round that has both."""
    return [of(ours[number]) / of(others[number]) for number in ours if number in others]


def _median(samples: dict[int, Sample], of: Figure) -> float:
    return statistics.median(map(of, samples.values()))
