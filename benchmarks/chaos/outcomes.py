"""How requests ended: choosing among them, counting, quantiles."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

OK = "OK"
UNAVAILABLE = "UNAVAILABLE"
CANCELLED = "CANCELLED"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
UNAUTHENTICATED = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. Times are those of ``time.perf_counter()``.

    Attributes:
        due: when it was to be sent.
        sent: when it was.
        ended: when its status came.
        connection: the number of the connection that it was sent over.
        kind: what was asked for.
        code: the name of its status.
        details: the message of a status other than OK.
        fault: what is wrong with the answer; empty where nothing is.
        origin: of the candidates, as in the API.
        version: of the model.
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
    def took_s(self) -> float:
        """From when it was sent. Sending waits for nothing, so no queue is hidden in the load."""
        return self.ended - self.sent

    @property
    def late_s(self) -> float:
        """What the load itself was late by: it shares the machine."""
        return self.sent - self.due


def failed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Those that got no answer."""
    return [one for one in outcomes if one.code != OK]


def faulty(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Those whose answer, or status, is not what the API promises."""
    return [one for one in outcomes if one.fault]


def due_between(outcomes: Iterable[Outcome], begin: float, end: float) -> list[Outcome]:
    """Those that were to be sent in that time."""
    return [one for one in outcomes if begin <= one.due < end]


def quantile_ms(outcomes: Iterable[Outcome], per_cent: float) -> float:
    """Within which so many per cent of them ended; 0 where there are none."""
    took = sorted(one.took_s for one in outcomes)
    return 1e3 * took[min(len(took) - 1, int(len(took) * per_cent / 100))] if took else 0.0


def slowest_ms(outcomes: Iterable[Outcome]) -> float:
    """The longest that one took; 0 where there are none."""
    return 1e3 * max((one.took_s for one in outcomes), default=0.0)


def past_deadline_ms(outcomes: Iterable[Outcome], deadline_s: float) -> float:
    """By how much the slowest ended after its deadline; 0 where all kept it."""
    return 1e3 * max(
        (one.took_s - deadline_s for one in outcomes if one.took_s > deadline_s), default=0.0
    )


def last_s(outcomes: Iterable[Outcome], since: float) -> float:
    """How long after ``since`` the last of them ended; 0 where none did."""
    return max((one.ended - since for one in outcomes if one.ended > since), default=0.0)


def described(outcomes: Sequence[Outcome], most: int = 3) -> str:
    """Their number, statuses, and one message of each."""
    if not outcomes:
        return "0"
    said: dict[str, str] = {}
    for one in outcomes:
        said.setdefault(one.code, one.fault or one.details)
    counts = Counter(one.code for one in outcomes).most_common(most)
    return f"{len(outcomes):,}: " + "; ".join(
        f"{code} {count:,} ({said[code][:160]})" for code, count in counts
    )


def where(outcomes: Iterable[Outcome], that: Callable[[Outcome], bool]) -> list[Outcome]:
    """Those of which it is true."""
    return [one for one in outcomes if that(one)]
