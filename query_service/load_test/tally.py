"""What was measured: counts and latencies, of bounded size, added up over processes."""

import math
from collections import Counter
from dataclasses import dataclass, field

from google.rpc import code_pb2

from retrieval.v1 import retrieval_service_pb2 as pb

#: A bucket's upper bound over its lower one. Its middle is within 1 % of all that is in it.
_GROWTH = 1.02
_BUCKETS_PER_E = 1 / math.log(_GROWTH)
_LEAST_S = 1e-6


@dataclass
class Latencies:
    """A histogram with logarithmic buckets: 1,163 of them from 1 microsecond to 10,000 s."""

    buckets: Counter[int] = field(default_factory=Counter)
    largest_s: float = 0.0

    def add(self, latency_s: float) -> None:
        """Count one; less than a microsecond counts as that."""
        self.buckets[math.floor(math.log(max(latency_s, _LEAST_S)) * _BUCKETS_PER_E)] += 1
        self.largest_s = max(self.largest_s, latency_s)

    def quantile(self, per_mille: int) -> float:
        """Seconds within which ``per_mille`` of 1,000 were answered, to 1 %; 0 where none was.

        The nearest rank: the smallest latency that is not below that share of them.
        """
        rank = -(-sum(self.buckets.values()) * per_mille // 1000)
        below = 0
        for bucket, count in sorted(self.buckets.items()):
            below += count
            if below >= rank:
                return min(math.exp((bucket + 0.5) / _BUCKETS_PER_E), self.largest_s)
        return 0.0

    def merge(self, other: "Latencies") -> None:
        """Add what another histogram has counted."""
        self.buckets.update(other.buckets)
        self.largest_s = max(self.largest_s, other.largest_s)


@dataclass
class Tally:
    """Counts of calls, and of answers: with BatchRetrieve a call has many of them."""

    #: OK calls, and their latencies.
    calls: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    #: OK answers, the candidates in them, and those that came from popularity.
    answers: int = 0
    candidates: int = 0
    popular: int = 0
    #: Answers by model version.
    versions: Counter[int] = field(default_factory=Counter)
    #: Requests that failed by the name of the status; a call that fails, fails all of its requests.
    errors: Counter[str] = field(default_factory=Counter)
    #: One message for each status.
    examples: dict[str, str] = field(default_factory=dict)
    #: Calls under way, or due and not sent, when the time was over.
    unfinished: int = 0
    #: Calls that were due and that the tool did not get to send.
    unsent: int = 0
    #: The time that counts.
    seconds: float = 0.0
    #: Of each process, how much of a core it used; may be more than 1.
    cores: list[float] = field(default_factory=list)

    def retrieved(self, data: bytes, latency_s: float) -> None:
        """Count an OK answer of Retrieve.

        Every answer is parsed: 100 candidates take 2.4 microseconds, 2 to 3 % of what sending a
        request and receiving its answer takes.
        """
        self._call(latency_s)
        self._answer(pb.RetrieveResponse.FromString(data))

    def batch_retrieved(self, data: bytes, latency_s: float) -> None:
        """Count an OK answer of BatchRetrieve, whose results may be errors."""
        self._call(latency_s)
        for result in pb.BatchRetrieveResponse.FromString(data).results:
            if result.WhichOneof("result") == "response":
                self._answer(result.response)
            else:
                self.failed(_name(result.error.code), result.error.message)

    def failed(self, name: str, message: str, requests: int = 1) -> None:
        """Count requests that ended with the status of that name."""
        self.errors[name] += requests
        self.examples.setdefault(name, message)

    def merge(self, other: "Tally") -> None:
        """Add what was counted elsewhere in the same time."""
        self.calls += other.calls
        self.latencies.merge(other.latencies)
        self.answers += other.answers
        self.candidates += other.candidates
        self.popular += other.popular
        self.versions.update(other.versions)
        self.errors.update(other.errors)
        self.examples = {**other.examples, **self.examples}
        self.unfinished += other.unfinished
        self.unsent += other.unsent
        self.seconds = max(self.seconds, other.seconds)
        self.cores += other.cores

    def _call(self, latency_s: float) -> None:
        self.calls += 1
        self.latencies.add(latency_s)

    def _answer(self, answer: pb.RetrieveResponse) -> None:
        self.answers += 1
        self.candidates += len(answer.candidates)
        self.popular += answer.origin == pb.ORIGIN_POPULARITY
        self.versions[answer.model_version] += 1


def _name(code: int) -> str:
    """The name of a status code in a message; the number where there is no such code."""
    try:
        return str(code_pb2.Code.Name(code))
    except ValueError:
        return str(code)
