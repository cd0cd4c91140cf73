"""The measured cases, and ours relative to the others."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields

import pandas as pd

from benchmarks.reporting import median_and_range
from benchmarks.service.catalogue import EXCLUDED, NEAREST_SEEN, NONE_SEEN, PLAIN, SCATTERED_SEEN
from benchmarks.service.load import Load, Sample
from benchmarks.service.peers import BATCH_USERS

OURS, PREDICT, BATCH = "shortlist", "bare Predict", f"BatchRetrieve of {BATCH_USERS}"
H2LOAD, PYTHON = "h2load", "Python"
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

    def table(self) -> pd.DataFrame:
        """Return the samples with a row for each round and the attributes as columns."""
        rows = [asdict(one) for one in self.samples.values()]
        columns = [one.name for one in fields(Sample)]
        return pd.DataFrame(rows, index=list(self.samples), columns=columns)


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

    def find(
        self, peer: str, question: str, concurrency: int, caller: str = H2LOAD
    ) -> pd.DataFrame:
        """Return the samples of a closed loop by round; empty if it was not measured."""
        wanted = (peer, question, Load(concurrency), caller)
        found = [
            one for one in self.cases if (one.peer, one.question, one.load, one.caller) == wanted
        ]
        return (found or [Case(peer, question, Load(concurrency))])[0].table()

    def concurrencies(self, peer: str, question: str) -> list[int]:
        """Return the concurrencies at which h2load measured a peer."""
        return [
            one.load.concurrency
            for one in self.cases
            if (one.peer, one.question, one.caller, one.load.rate) == (peer, question, H2LOAD, 0)
        ]

    def medians(self, peer: str, question: str, figure: str) -> dict[int, float]:
        """Return the median of a figure by concurrency, as far as h2load measured it."""
        return {
            load: float(samples[figure].median())
            for load in self.concurrencies(peer, question)
            if len(samples := self.find(peer, question, load))
        }


@dataclass
class Line:
    """One line of the summary, with a value of every round."""

    what: str
    unit: str
    values: list[float]

    def __str__(self) -> str:
        return median_and_range(self.values, 3 if max(self.values) < 10 else 1)


def summarise(results: Results) -> list[Line]:
    """Return ours relative to the others; ratios are taken within each round."""
    if not results.concurrencies(OURS, PLAIN):
        return []
    lines = (
        *_against_others(results),
        *_other_loads(results),
        *_process_figures(results),
        *_cost_of_exclusions(results),
    )
    return [line for line in lines if line.values]


def _ratios(what: str, ours: pd.DataFrame, others: pd.DataFrame, figure: str = "rate") -> Line:
    """Return ours divided by the other's, for each round that has both."""
    return Line(what, "x", (ours[figure] / others[figure]).dropna().tolist())


def _against_others(results: Results) -> Iterator[Line]:
    loads = results.concurrencies(OURS, PLAIN)
    highest = max(loads)
    ours = results.find(OURS, PLAIN, highest)
    for peer in ("echo-aio", "echo-threads", "echo-core", "naive"):
        others = results.find(peer, PLAIN, highest)
        yield _ratios(f"req/s at {highest}, against {peer}", ours, others)
    for question in (PLAIN, EXCLUDED):
        rates = {name: results.medians(name, question, "rate") for name in _WITHOUT_MODEL_SERVER}
        for load in loads:
            known = {name: by_load[load] for name, by_load in rates.items() if load in by_load}
            if known:
                best = max(known, key=known.__getitem__)
                ours, others = (results.find(one, question, load) for one in (OURS, best))
                yield _ratios(f"req/s at {load}, {question}, against {best}", ours, others)
    for caller in (H2LOAD, PYTHON):
        ours, others = (results.find(one, PLAIN, 1, caller) for one in (OURS, PREDICT))
        what = f"p50 at 1, against one bare Predict, both by {caller}"
        yield _ratios(what, ours, others, "p50_ms")


def _other_loads(results: Results) -> Iterator[Line]:
    for case in results.cases:
        samples = case.table()
        if case.load.rate:
            what = f"at half of the highest rate, {case.load.rate:,.0f} req/s sent"
            yield Line(f"answers/s {what}", "", samples.rate.tolist())
            yield Line(f"p50 {what}", "ms", samples.p50_ms.tolist())
            yield Line(f"p99 {what}", "ms", samples.p99_ms.tolist())
        if case.peer == BATCH:
            users = (BATCH_USERS * samples.rate).tolist()
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
        ours, without = (results.find(OURS, one, load) for one in (EXCLUDED, PLAIN))
        yield _ratios(f"req/s at {load}, 100 exclusions against none", ours, without)
    for question in (SCATTERED_SEEN, NEAREST_SEEN):
        for load in results.concurrencies(OURS, question):
            ours, without = (results.find(OURS, one, load) for one in (question, NONE_SEEN))
            what = f"at {load}, {question} against none"
            yield _ratios(f"p50 {what}", ours, without, "p50_ms")
            yield _ratios(f"req/s {what}", ours, without)
