"""The outcomes of requests as a table with a row for each, and what can be selected from it."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

OK = "OK"
UNAVAILABLE = "UNAVAILABLE"
CANCELLED = "CANCELLED"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
UNAUTHENTICATED = "UNAUTHENTICATED"


class Outcome(NamedTuple):
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
    details: str
    fault: str
    origin: int
    version: int


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return a table of outcomes by due time, with the additional column ``latency_ms``.

    Latency counts from the time of sending. Sending never waits for answers, so that this hides
    no queue.
    """
    rows = pd.DataFrame(outcomes, columns=list(Outcome._fields)).sort_values("due")
    rows["latency_ms"] = 1e3 * (rows.ended - rows.sent)
    return rows.reset_index(drop=True)


def failed(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the requests without an answer."""
    return outcomes[outcomes.code != OK]


def faulty(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the requests whose answer is not what the API promises."""
    return outcomes[outcomes.fault != ""]


def longest(values: pd.Series) -> float:
    """Return the largest of some times; 0 if there are none, or if all are negative."""
    return float(values.clip(lower=0).max()) if len(values) else 0.0


def summarise(outcomes: pd.DataFrame) -> str:
    """Return the number of requests, the three most frequent statuses, and a message of each."""
    parts = []
    for code, count in outcomes.code.value_counts()[:3].items():
        first = outcomes[outcomes.code == code].iloc[0]
        parts.append(f"{code} {count:,} ({(first.fault or first.details)[:160]})")
    return f"{len(outcomes):,}" + (f": {'; '.join(parts)}" if parts else "")
