"""The outcomes of requests: a table with one row per request, and functions that select rows."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

OK = "OK"
UNAVAILABLE = "UNAVAILABLE"
CANCELLED = "CANCELLED"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
UNAUTHENTICATED = "UNAUTHENTICATED"


class Outcome(NamedTuple):
    """The outcome of one request. Times are values of ``time.perf_counter()``.

    Attributes:
        due: when it was due to be sent.
        sent: when it was sent.
        ended: when its status arrived.
        connection: the number of the connection over which the request was sent.
        kind: the kind of request.
        code: the name of the status.
        details: the message of a status other than OK.
        fault: a description of the error in the answer; empty if the answer is correct.
        origin: the origin of the candidates, as in the API.
        version: the model version that answered.
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
    """Return a table of outcomes, sorted by due time, with the additional column ``latency_ms``.

    Latency is measured from the time of sending. The load generator never waits for answers before
    it sends, so latency includes all waiting.
    """
    rows = pd.DataFrame(outcomes, columns=list(Outcome._fields)).sort_values("due")
    rows["latency_ms"] = 1e3 * (rows.ended - rows.sent)
    return rows.reset_index(drop=True)


def failed(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes whose status is not OK."""
    return outcomes[outcomes.code != OK]


def faulty(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the outcomes whose answer breaks a promise of the API."""
    return outcomes[outcomes.fault != ""]


def longest(values: pd.Series) -> float:
    """Return the longest duration; 0 if there are no values, or only negative ones."""
    return float(values.clip(lower=0).max()) if len(values) else 0.0


def summarise(outcomes: pd.DataFrame) -> str:
    """Return the number of requests, the three most frequent statuses, and a message of each."""
    parts = []
    for code, count in outcomes.code.value_counts()[:3].items():
        first = outcomes[outcomes.code == code].iloc[0]
        parts.append(f"{code} {count:,} ({(first.fault or first.details)[:160]})")
    return f"{len(outcomes):,}" + (f": {'; '.join(parts)}" if parts else "")
