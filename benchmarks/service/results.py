"""What the service benchmark has measured, and ours against the others."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.service.catalogue import EXCLUDED, NEAREST_SEEN, NONE_SEEN, PLAIN, SCATTERED_SEEN
from benchmarks.service.load import Load, Sample

OURS, PREDICT, BATCH = "shortlist", "bare Predict", "BatchRetrieve of 256"
H2LOAD, PYTHON = "h2load", "Python"
#: Peers with an index behind a usual service.
_OTHERS = ("fastapi", "chroma")


@dataclass
class Turn:
    """One measurement, and its samples by round."""

    peer: str
    question: str
    load: Load
    caller: str = H2LOAD
    samples: dict[int, Sample] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = f" at {self.load.rate:,.0f} req/s" if self.load.rate else ""
        return f"{self.peer}, {self.question}, {self.load.concurrency} at a time{rate}"


@dataclass
class Results:
    """All there is to say."""

    turns: list[Turn]
    notes: dict[str, str]
    recall: dict[str, float]
    faults: list[str] = field(default_factory=list)
    start_seconds: list[float] = field(default_factory=list)

    def turn(
        self, peer: str, question: str, concurrency: int, caller: str = H2LOAD
    ) -> dict[int, Sample]:
        """The samples of one turn of a closed loop; none where it was not measured."""
        for one in self.turns:
            if (one.peer, one.question, one.load, one.caller) == (
                *(peer, question, Load(concurrency), caller),
            ):
                return one.samples
        return {}

    def concurrencies(self, peer: str, question: str) -> list[int]:
        """At which it was measured."""
        return [
            one.load.concurrency
            for one in self.turns
            if (one.peer, one.question, one.caller, one.load.rate) == (peer, question, H2LOAD, 0)
        ]

    def top(self, peer: str) -> float:
        """Its highest rate, as the median of the rounds."""
        medians = [
            statistics.median(one.rate for one in samples.values())
            for concurrency in self.concurrencies(peer, PLAIN)
            if (samples := self.turn(peer, PLAIN, concurrency))
        ]
        return max(medians, default=0.0)


@dataclass
class Line:
    """One line of the summary: a figure of every round."""

    what: str
    unit: str
    values: list[float]

    def __str__(self) -> str:
        return spread(self.values, 3 if max(self.values) < 10 else 1)


def summary(results: Results) -> list[Line]:
    """Ours against the others: shares are taken within each round."""
    return [line for line in _lines(results) if line.values]


def _lines(results: Results) -> Iterator[Line]:
    def ours(concurrency: int, question: str = PLAIN, caller: str = H2LOAD) -> dict[int, Sample]:
        return results.turn(OURS, question, concurrency, caller)

    loads = results.concurrencies(OURS, PLAIN)
    if not loads:
        return
    most = max(loads)
    for peer in ("echo-aio", "echo-threads", "echo-core", "naive"):
        others = results.turn(peer, PLAIN, most)
        yield Line(f"req/s at {most}, against {peer}", "x", _shares(ours(most), others, rate_of))
    for question in (PLAIN, EXCLUDED):
        for load in loads:
            every = [(name, results.turn(name, question, load)) for name in _OTHERS]
            known = [(name, samples) for name, samples in every if samples]
            if not known:
                continue
            name, best = max(known, key=lambda one: _median(one[1], rate_of))
            shares = _shares(ours(load, question), best, rate_of)
            yield Line(f"req/s at {load}, {question}, against the best of {name}", "x", shares)
    for caller in (H2LOAD, PYTHON):
        shares = _shares(
            ours(1, caller=caller), results.turn(PREDICT, PLAIN, 1, caller), lambda one: one.p50_ms
        )
        yield Line(f"p50 at 1, against one bare Predict, both from {caller}", "x", shares)
    for turn in results.turns:
        if turn.load.rate:
            what = f"at half of the highest rate, {turn.load.rate:,.0f} req/s sent"
            for figure, name in ((rate_of, "answers/s"), (p50_of, "p50"), (p99_of, "p99")):
                unit = "" if figure is rate_of else "ms"
                yield Line(f"{name} {what}", unit, [figure(one) for one in turn.samples.values()])
        if turn.peer == BATCH:
            users = [256 * one.rate for one in turn.samples.values()]
            yield Line(f"users/s, {BATCH}, {turn.load.concurrency} at a time", "", users)
    yield Line("start of the query service", "s", results.start_seconds)
    memory = [
        one.largest_mib["service"]
        for turn in results.turns
        if turn.peer == OURS
        for one in turn.samples.values()
    ]
    what = "resident memory of a worker of the query service, at the most"
    yield Line(what, "MiB", sorted(memory)[-1:])
    for load in loads:
        shares = _shares(ours(load, EXCLUDED), ours(load), rate_of)
        yield Line(f"req/s at {load}, with 100 exclusions against without", "x", shares)
    for question in (SCATTERED_SEEN, NEAREST_SEEN):
        for load in results.concurrencies(OURS, question):
            for figure, name in ((p50_of, "p50"), (rate_of, "req/s")):
                shares = _shares(ours(load, question), ours(load, NONE_SEEN), figure)
                yield Line(f"{name} at {load}, {question} against none", "x", shares)


Figure = Callable[[Sample], float]


def rate_of(one: Sample) -> float:
    """Answers a second."""
    return one.rate


def p50_of(one: Sample) -> float:
    """Median time, ms."""
    return one.p50_ms


def p99_of(one: Sample) -> float:
    """Time of the slowest in a hundred, ms."""
    return one.p99_ms


def _shares(ours: dict[int, Sample], others: dict[int, Sample], of: Figure) -> list[float]:
    """Round by round."""
    return [of(ours[number]) / of(others[number]) for number in ours if number in others]


def _median(samples: dict[int, Sample], of: Figure) -> float:
    return statistics.median(of(one) for one in samples.values())


def spread(values: list[float], digits: int) -> str:
    """Median, lowest and highest."""
    lowest, highest = min(values), max(values)
    return f"{statistics.median(values):,.{digits}f} ({lowest:,.{digits}f}-{highest:,.{digits}f})"
