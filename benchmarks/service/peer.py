"""What a peer of benchmarks.service is."""

import http.client
import importlib.util
from abc import ABC, abstractmethod

import grpc
import psutil

from benchmarks.service.catalogue import Catalogue, Question
from benchmarks.service.load import Failed, Request
from benchmarks.service.processes import Machinery

_TIMEOUT_S = 30
_LARGE = [("grpc.max_receive_message_length", -1)]


class Peer(ABC):
    """One way to get candidates."""

    #: Modules it cannot do without.
    needs: tuple[str, ...] = ()
    #: Ways to ask it, of which the fastest is measured, and the question that decides.
    ways: tuple[str, ...] = ("",)
    decides = "plain"
    #: Whether its answers mean anything.
    searches = True

    def __init__(self) -> None:
        self.way = self.ways[0]
        #: What people should know of how it runs.
        self.note = ""
        #: Share of the true 100 neighbours, where it searches at all.
        self.recall: float | None = None
        self.address = ""
        self.parts: dict[str, psutil.Process] = {}

    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [one for one in self.needs if importlib.util.find_spec(one) is None]

    @abstractmethod
    def start(self, machinery: Machinery) -> None:
        """Run its servers."""

    @abstractmethod
    def request(self, question: Question) -> Request:
        """The question as it is sent."""

    @abstractmethod
    def read(self, body: bytes, question: Question) -> list[str]:
        """The ids in an answer's body."""

    def call(self, request: Request) -> bytes:
        """Ask once over gRPC: the answer's body."""
        with grpc.insecure_channel(self.address, options=_LARGE) as channel:
            try:
                body: bytes = channel.unary_unary(request.path)(request.body, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                raise Failed(f"{error.code().name}: {error.details()}") from error
        return body

    def ids(self, question: Question) -> list[str]:
        """Ask once."""
        return self.read(self.call(self.request(question)), question)

    def check(self, question: Question) -> int:
        """Ask once and look at the answer: its bytes, gRPC's prefix included.

        Raises:
            Failed: not as many candidates as asked for, or some that must not be there.
        """
        request = self.request(question)
        body = self.call(request)
        ids = self.read(body, question)
        if len(set(ids)) != question.k or len(ids) != question.k:
            raise Failed(f"{len(set(ids))} candidates instead of {question.k}")
        if self.searches and (found := question.unwanted.intersection(ids)):
            raise Failed(f"{len(found)} candidates that were excluded")
        return len(body) + (0 if request.http1 else 5)

    def measure_recall(self, catalogue: Catalogue) -> float:
        """Recall@100, with 200 users asked one after another."""
        shares = [
            len(truth.intersection(self.ids(question))) / question.k
            for question, truth in catalogue.users()
        ]
        return sum(shares) / len(shares)


def http_call(address: str, method: str, path: str, body: bytes = b"") -> bytes:
    """Ask once over HTTP/1.1: the answer's body.

    Raises:
        Failed: no answer, or another status than 2xx.
    """
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    except OSError as error:
        raise Failed(f"{address}: {error}") from error
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise Failed(f"{method} {path}: {response.status} {answer[:200]!r}")
    return answer
