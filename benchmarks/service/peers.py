"""The peers of the comparison: how each is started and asked, and how its answers are read."""

import json
import statistics
import urllib.request
from abc import ABC, abstractmethod

import grpc

from benchmarks import serving
from benchmarks.service.catalogue import Catalogue, Question
from benchmarks.service.deployment import Deployment
from benchmarks.service.load import MeasurementError
from benchmarks.vectors import K
from query_service.load_test.requests import BATCH_RETRIEVE, RETRIEVE
from retrieval.v1 import retrieval_service_pb2 as pb
from serving_contract import BY_USER, ITEM_ID, RETRIEVAL, USER_ID
from tfserving_subset.v1 import prediction_pb2 as tfs
from tools.h2load import GRPC_PREFIX_BYTES, Request
from tools.usage import memory_mib

BATCH_USERS = 256
_TIMEOUT_S = 30
_UNLIMITED = [("grpc.max_receive_message_length", -1)]


class Peer(ABC):
    """One way to get candidates, which speaks gRPC unless it overrides :meth:`call`.

    Attributes:
        searches: False if its answers are made up.
        address: HOST:PORT of its server.
    """

    searches = True
    address: str

    @abstractmethod
    def start(self, deployment: Deployment) -> None:
        """Start the servers of this peer, and set ``address``."""

    @abstractmethod
    def request(self, question: Question) -> Request:
        """Return the request for a question."""

    @abstractmethod
    def read(self, body: bytes, question: Question) -> list[str]:
        """Return the item ids in the body of an answer."""

    def call(self, request: Request) -> bytes:
        """Send a request; return the body of its answer.

        Raises:
            MeasurementError: the call failed.
        """
        with grpc.insecure_channel(self.address, options=_UNLIMITED) as channel:
            try:
                return serving.method(channel, request.path)(request.body, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                raise MeasurementError(f"{error.code().name}: {error.details()}") from error

    def check(self, question: Question) -> int:
        """Ask a question and check the answer; return the bytes of the answer's DATA frames.

        Raises:
            MeasurementError: there are too few candidates, or excluded ones.
        """
        request = self.request(question)
        body = self.call(request)
        ids = self.read(body, question)
        if len(set(ids)) != K or len(ids) != K:
            raise MeasurementError(f"{len(set(ids))} candidates instead of {K}")
        if self.searches and (excluded := question.excluded.intersection(ids)):
            raise MeasurementError(f"{len(excluded)} excluded candidates")
        return len(body) + (0 if request.http1 else GRPC_PREFIX_BYTES)

    def measure_recall(self, catalogue: Catalogue) -> float:
        """Return recall@100 over 200 users, who are asked for one after another."""
        shares = []
        for question, neighbours in catalogue.questions_with_answers():
            ids = self.read(self.call(self.request(question)), question)
            shares.append(len(set(neighbours).intersection(ids)) / K)
        return statistics.mean(shares)


class GrpcPeer(Peer):
    """A server of the public API."""

    def request(self, question: Question) -> Request:
        return Request(RETRIEVE, _retrieve(question).SerializeToString())

    def read(self, body: bytes, question: Question) -> list[str]:
        return [one.item_id for one in pb.RetrieveResponse.FromString(body).candidates]


class Echo(GrpcPeer):
    """A server that always gives the same answer, which shows the highest rate of its runtime."""

    searches = False

    def __init__(self, name: str) -> None:
        self._name = name

    def start(self, deployment: Deployment) -> None:
        self.address = deployment.start_peer(self._name).address


class Naive(GrpcPeer):
    """A service that sends one Predict per request to the model server that ours asks as well."""

    def start(self, deployment: Deployment) -> None:
        self.address = deployment.start_peer("naive", deployment.model_server.address).address


class Shortlist(GrpcPeer):
    """The query service."""

    def start(self, deployment: Deployment) -> None:
        self._server = deployment.start_query_service()
        self.address = self._server.address

    def largest_worker_mib(self) -> float:
        """Return the resident memory of the largest of its processes."""
        return max(memory_mib(self._server.process))


class Batch(GrpcPeer):
    """BatchRetrieve of ours for 256 users, of which the user of the question is the first."""

    def __init__(self, ours: Peer) -> None:
        self.address = ours.address

    def start(self, deployment: Deployment) -> None:
        """Do nothing: ours runs already."""

    def request(self, question: Question) -> Request:
        message = pb.BatchRetrieveRequest(requests=[_retrieve(question)])
        for number in range(1, BATCH_USERS):
            message.requests.add(user_id=f"user-{1000 + number}", max_candidates=K)
        return Request(BATCH_RETRIEVE, message.SerializeToString())

    def read(self, body: bytes, question: Question) -> list[str]:
        """Return the ids for the first user, after checking that every user has an answer."""
        results = pb.BatchRetrieveResponse.FromString(body).results
        if any(len(one.response.candidates) != K for one in results):
            raise MeasurementError("a user of the batch has no full answer")
        return [one.item_id for one in results[0].response.candidates]


class BarePredict(Peer):
    """The model server itself with one Predict per request, without exclusions."""

    def start(self, deployment: Deployment) -> None:
        self.address = deployment.model_server.address

    def request(self, question: Question) -> Request:
        user = serving.tensor(tfs.DT_STRING, 1, string_val=[question.user_id.encode()])
        message = serving.predict_request(BY_USER, {USER_ID: user}, K)
        return Request(serving.PREDICT, message.SerializeToString())

    def read(self, body: bytes, question: Question) -> list[str]:
        item_ids = tfs.PredictResponse.FromString(body).outputs[ITEM_ID].string_val
        return [one.decode() for one in item_ids]


class JsonPeer(Peer):
    """A server of JSON over HTTP/1.1."""

    def call(self, request: Request) -> bytes:
        headers = {"content-type": "application/json"}
        post = urllib.request.Request(f"http://{self.address}{request.path}", request.body, headers)
        try:
            with urllib.request.urlopen(post, timeout=_TIMEOUT_S) as response:
                body: bytes = response.read()
        except OSError as error:
            raise MeasurementError(f"POST {post.full_url}: {error}") from error
        return body


class FastApi(JsonPeer):
    """A web service with the index in its own process."""

    def start(self, deployment: Deployment) -> None:
        version = serving.current_version(deployment.catalogue.models_dir)
        model = version / RETRIEVAL / version.name
        self.address = deployment.start_peer("fastapi", str(model)).address

    def request(self, question: Question) -> Request:
        body = {"user_id": question.user_id, "exclude": question.exclude}
        return Request("/retrieve", json.dumps(body).encode(), http1=True)

    def read(self, body: bytes, question: Question) -> list[str]:
        return [one["item_id"] for one in json.loads(body)["candidates"]]


def _retrieve(question: Question) -> pb.RetrieveRequest:
    return pb.RetrieveRequest(
        user_id=question.user_id,
        max_candidates=K,
        exclude_seen=question.exclude_seen,
        exclude_item_ids=question.exclude,
    )
