"""Collects the counts and latencies of a load test in a bounded amount of memory."""

from collections import Counter
from dataclasses import dataclass, field

from google.rpc import code_pb2

from retrieval.v1 import retrieval_service_pb2 as pb


@dataclass
class Latencies:
    """A histogram of latencies, rounded to three significant digits (within 0.5 %)."""

    counts: Counter[str] = field(default_factory=Counter)
    largest_s: float = 0.0

    def add(self, latency_s: float) -> None:
        """Record one latency."""
        self.counts[f"{latency_s:.2e}"] += 1
        self.largest_s = max(self.largest_s, latency_s)

    def quantile(self, per_mille: int) -> float:
        """Return a quantile in seconds; 990 gives the 99th percentile. Without latencies, return 0.

        It is the nearest rank: the smallest latency that is at least as large as ``per_mille`` of
        every 1,000 latencies.
        """
        rank = -(-self.counts.total() * per_mille // 1000)
        cumulative = 0
        for latency_s, count in sorted((float(text), n) for text, n in self.counts.items()):
            cumulative += count
            if cumulative >= rank:
                return min(latency_s, self.largest_s)
        return 0.0

    def merge(self, other: "Latencies") -> None:
        """Add the latencies of another histogram."""
        self.counts.update(other.counts)
        self.largest_s = max(self.largest_s, other.largest_s)


@dataclass
class Tally:
    """The counts of a load test. A Retrieve call has one answer, and a BatchRetrieve call has many.

    Attributes:
        calls: The number of OK calls.
        latencies: The latencies of the OK calls.
        answers: The number of OK answers.
        candidates: The number of candidates in all OK answers.
        popular: The number of OK answers with popular items instead of the model's ranking.
        versions: The number of OK answers by model version.
        errors: The number of failed requests by status code. A failed batch counts each request.
        examples: One error message per status code.
        unfinished: The number of calls without an answer at the end: in flight, or in ``unsent``.
        unsent: The number of calls that were due but not sent, as the load generator was too slow.
        seconds: The length of the measurement, without the warm-up.
        cores: For each process of the load generator, the average number of CPU cores it used.
    """

    calls: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    answers: int = 0
    candidates: int = 0
    popular: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unfinished: int = 0
    unsent: int = 0
    seconds: float = 0.0
    cores: list[float] = field(default_factory=list)

    def add_answer(self, data: bytes, latency_s: float) -> None:
        """Count a successful Retrieve call. ``data`` is the serialized response."""
        self._add_call(latency_s)
        self._add_response(pb.RetrieveResponse.FromString(data))

    def add_batch(self, data: bytes, latency_s: float) -> None:
        """Count a successful BatchRetrieve call. Each result is an answer or an error."""
        self._add_call(latency_s)
        for result in pb.BatchRetrieveResponse.FromString(data).results:
            if result.WhichOneof("result") == "response":
                self._add_response(result.response)
            else:
                code = code_pb2.Code.DESCRIPTOR.values_by_number.get(result.error.code)
                name = code.name if code else str(result.error.code)
                self.add_error(name, result.error.message)

    def add_error(self, name: str, message: str, requests: int = 1) -> None:
        """Count requests that ended with the status code ``name``."""
        self.errors[name] += requests
        self.examples.setdefault(name, message)

    def merge(self, other: "Tally") -> None:
        """Add the counts of another process or connection that ran at the same time."""
        for name in ("calls", "answers", "candidates", "popular", "unfinished", "unsent", "cores"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latencies.merge(other.latencies)
        self.versions.update(other.versions)
        self.errors.update(other.errors)
        self.examples = {**other.examples, **self.examples}
        self.seconds = max(self.seconds, other.seconds)

    def _add_call(self, latency_s: float) -> None:
        self.calls += 1
        self.latencies.add(latency_s)

    def _add_response(self, answer: pb.RetrieveResponse) -> None:
        self.answers += 1
        self.candidates += len(answer.candidates)
        self.popular += answer.origin == pb.ORIGIN_POPULARITY
        self.versions[answer.model_version] += 1
