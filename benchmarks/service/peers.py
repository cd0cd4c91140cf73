"""The peers of the comparison: how each one is started and called, and how answers are read."""

import json
import statistics
import urllib.request
from abc import ABC, abstractmethod

import grpc

from benchmarks import serving
from benchmarks.service.catalogue import Catalogue, UserRequest
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
    """One way to get candidates. A peer uses gRPC unless it overrides :meth:`call`.

    Attributes:
        searches: False if the peer returns fixed candidates without searching.
        address: HOST:PORT of the peer's server.
    """

    searches = True
    address: str

    @abstractmethod
    def start(self, deployment: Deployment) -> None:
        """Start the peer's servers and set ``address``."""

    @abstractmethod
    def request(self, user_request: UserRequest) -> Request:
        """Return a user request in the form that this peer's server takes."""

    @abstractmethod
    def read(self, body: bytes, user_request: UserRequest) -> list[str]:
        """Return the item ids in the body of the answer to ``user_request``."""

    def call(self, request: Request) -> bytes:
        """Send a request; return the body of the answer.

        Raises:
            MeasurementError: the call failed.
        """
        with grpc.insecure_channel(self.address, options=_UNLIMITED) as channel:
            try:
                return serving.method(channel, request.path)(request.body, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                raise MeasurementError(f"{error.code().name}: {error.details()}") from error

    def check(self, user_request: UserRequest) -> int:
        """Send a request and check the answer; return the size of the answer's DATA frames.

        Raises:
            MeasurementError: candidates are missing, duplicated or excluded.
        """
        request = self.request(user_request)
        body = self.call(request)
        ids = self.read(body, user_request)
        if len(set(ids)) != K or len(ids) != K:
            raise MeasurementError(f"{len(set(ids))} candidates instead of {K}")
        if self.searches and (excluded := user_request.excluded.intersection(ids)):
            raise MeasurementError(f"{len(excluded)} excluded candidates")
        return len(body) + (0 if request.http1 else GRPC_PREFIX_BYTES)

    def measure_recall(self, catalogue: Catalogue) -> float:
        """Return the mean recall@100 over 200 users, with one request at a time."""
        shares = []
        for user_request, neighbours in catalogue.requests_with_answers():
            ids = self.read(self.call(self.request(user_request)), user_request)
            shares.append(len(set(neighbours).intersection(ids)) / K)
        return statistics.mean(shares)


class GrpcPeer(Peer):
    """A server with Shortlist's public API."""

    def request(self, user_request: UserRequest) -> Request:
        return Request(RETRIEVE, _retrieve(user_request).SerializeToString())

    def read(self, body: bytes, user_request: UserRequest) -> list[str]:
        return [item.item_id for item in pb.RetrieveResponse.FromString(body).candidates]


class Echo(GrpcPeer):
    """A server that always sends the same answer, to show the highest rate of its gRPC runtime."""

    searches = False

    def __init__(self, name: str) -> None:
        self._name = name

    def start(self, deployment: Deployment) -> None:
        self.address = deployment.start_peer(self._name).address


class Naive(GrpcPeer):
    """A service that sends one Predict per request to the model server that Shortlist also uses."""

    def start(self, deployment: Deployment) -> None:
        self.address = deployment.start_peer("naive", deployment.model_server.address).address


class Shortlist(GrpcPeer):
    """Shortlist's query service."""

    def start(self, deployment: Deployment) -> None:
        self._server = deployment.start_query_service()
        self.address = self._server.address

    def largest_worker_mib(self) -> float:
        """Return the resident memory of the query service's largest process in MiB."""
        return max(memory_mib(self._server.process))


class Batch(GrpcPeer):
    """Shortlist's BatchRetrieve for 256 users; the first is the user of the user request."""

    def __init__(self, ours: Peer) -> None:
        self.address = ours.address

    def start(self, deployment: Deployment) -> None:
        """Do nothing: Shortlist runs already."""

    def request(self, user_request: UserRequest) -> Request:
        message = pb.BatchRetrieveRequest(requests=[_retrieve(user_request)])
        for number in range(1, BATCH_USERS):
            message.requests.add(user_id=f"user-{1000 + number}", max_candidates=K)
        return Request(BATCH_RETRIEVE, message.SerializeToString())

    def read(self, body: bytes, user_request: UserRequest) -> list[str]:
        """Return the item ids for the first user, and check that all users got 100 candidates."""
        results = pb.BatchRetrieveResponse.FromString(body).results
        if any(len(result.response.candidates) != K for result in results):
            raise MeasurementError(f"a user in the batch did not get {K} candidates")
        return [item.item_id for item in results[0].response.candidates]


class BarePredict(Peer):
    """The model server, called directly with one Predict per request and without exclusions."""

    def start(self, deployment: Deployment) -> None:
        self.address = deployment.model_server.address

    def request(self, user_request: UserRequest) -> Request:
        user = serving.tensor(tfs.DT_STRING, 1, string_val=[user_request.user_id.encode()])
        message = serving.predict_request(BY_USER, {USER_ID: user}, K)
        return Request(serving.PREDICT, message.SerializeToString())

    def read(self, body: bytes, user_request: UserRequest) -> list[str]:
        item_ids = tfs.PredictResponse.FromString(body).outputs[ITEM_ID].string_val
        return [item_id.decode() for item_id in item_ids]


class JsonPeer(Peer):
    """A server that takes and returns JSON over HTTP/1.1."""

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

    def request(self, user_request: UserRequest) -> Request:
        body = {"user_id": user_request.user_id, "exclude": user_request.exclude}
        return Request("/retrieve", json.dumps(body).encode(), http1=True)

    def read(self, body: bytes, user_request: UserRequest) -> list[str]:
        return [item["item_id"] for item in json.loads(body)["candidates"]]


def _retrieve(user_request: UserRequest) -> pb.RetrieveRequest:
    return pb.RetrieveRequest(
        user_id=user_request.user_id,
        max_candidates=K,
        exclude_seen=user_request.exclude_seen,
        exclude_item_ids=user_request.exclude,
    )
