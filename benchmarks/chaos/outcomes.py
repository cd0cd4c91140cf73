"""The outcomes of requests: selection, counts and quantiles."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OK = "OK"
UNAVAILABLE = "UNAVAILABLE"
CANCELLED = "CANCELLED"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
UNAUTHENTICATED = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one request. Times are those of ``time.perf_counter()``.

    Attributes:
        due: when it was due to be sent.
        sent: when it was sent.
        ended: when its status arrived.
        connection: number of the connection that it was sent over.
        kind: the kind of request.
        code: name of its status.
        details: message of a status other than OK.
        fault: what is wrong with the answer; empty if nothing is.
        origin: origin of the candidates, as in the API.
        version: model version of the answer.
    """

    due: float
    sent: float
    ended: float
    connection: int
    kind: str
    code: str
    details: str = ""
    fault: str = ""
    origin: int = 0
    version: int = 0

    @property
    def latency_s(self) -> float:
        """Return the time since it was sent. Sending never waits, so this hides no queue."""
        return self.ended - self.sent

    @property
    def send_delay_s(self) -> float:
        """Return how late the load generator, which shares the machine, sent it."""
        return self.sent - self.due


def failed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the requests without an answer."""
    return [one for one in outcomes if one.code != OK]


def faulty(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the requests whose answer is not what the API promises."""
    return [one for one in outcomes if one.fault]


def due_between(outcomes: Iterable[Outcome], begin: float, end: float) -> list[Outcome]:
    """Return the requests that were due in that time."""
    return [one for one in outcomes if begin <= one.due < end]


def ended_before(outcomes: Iterable[Outcome], end: float) -> list[Outcome]:
    """Return the requests that ended before that time."""
    return [one for one in outcomes if one.ended < end]


def quantile_ms(outcomes: Iterable[Outcome], percent: float) -> float:
    """Return the latency that ``percent`` of the requests do not exceed; 0 without any."""
    latencies = sorted(one.latency_s for one in outcomes)
    if not latencies:
        return 0.0
    return 1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * percent / 100))]


def slowest_ms(outcomes: Iterable[Outcome]) -> float:
    """Return the longest latency; 0 without any."""
    return 1e3 * max((one.latency_s for one in outcomes), default=0.0)


def overrun_ms(outcomes: Iterable[Outcome], deadline_s: float) -> float:
    """Return the longest time that a request ended after its deadline; 0 if all kept it."""
    return max(0.0, slowest_ms(outcomes) - 1e3 * deadline_s)


def last_after_s(outcomes: Iterable[Outcome], since: float) -> float:
    """Return the time from ``since`` until the last of the requests ended; 0 without any."""
    return max((one.ended - since for one in outcomes if one.ended > since), default=0.0)


def summarise(outcomes: Sequence[Outcome], statuses: int = 3) -> str:
    """Return the number of requests, the most frequent statuses, and a message of each."""
    if not outcomes:
        return "0"
    messages: dict[str, str] = {}
    for one in outcomes:
        messages.setdefault(one.code, one.fault or one.details)
    counts = Counter(one.code for one in outcomes).most_common(statuses)
    return f"{len(outcomes):,}: " + "; ".join(
        f"{code} {count:,} ({messages[code][:160]})" for code, count in counts
    )
