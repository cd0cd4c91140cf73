"""The peers of benchmarks.service: how each is started, asked and understood."""

import json

from benchmarks.service.catalogue import Question
from benchmarks.service.chroma import Chroma
from benchmarks.service.load import Failed, Request
from benchmarks.service.peer import Peer, http_call
from benchmarks.service.processes import Machinery
from retrieval.v1 import retrieval_service_pb2 as pb
from serving_contract import BY_USER, ITEM_ID, RETRIEVAL, USER_ID, K
from tfserving_subset.v1 import prediction_pb2 as tfs


class Grpc(Peer):
    """Whoever speaks the public API."""

    def request(self, question: Question) -> Request:
        """See the base class."""
        message = _retrieve(question).SerializeToString()
        return Request("/retrieval.v1.RetrievalService/Retrieve", message)

    def read(self, body: bytes, question: Question) -> list[str]:
        """See the base class."""
        del question
        return [one.item_id for one in pb.RetrieveResponse.FromString(body).candidates]


class Echo(Grpc):
    """Always the same answer: what the usual runtime can do at the most."""

    searches = False

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def start(self, machinery: Machinery) -> None:
        """See the base class."""
        server = machinery.start(self._name, machinery.role(self._name))
        self.address, self.parts = server.address, {"service": server.process}


class Naive(Grpc):
    """One Predict a request, to the same model server as ours."""

    def start(self, machinery: Machinery) -> None:
        """See the base class."""
        upstream = machinery.model_server
        server = machinery.start("naive", machinery.role("naive", upstream.address))
        self.address = server.address
        self.parts = {"service": server.process, "model server": upstream.process}


class Shortlist(Grpc):
    """Ours."""

    def start(self, machinery: Machinery) -> None:
        """See the base class."""
        server = machinery.serve()
        self.address = server.address
        self.parts = {
            "service": server.process,
            "model server": machinery.model_server.process,
        }


class Batch(Grpc):
    """BatchRetrieve of ours: many users, the one of the question first."""

    users = 256

    def __init__(self, ours: Peer) -> None:
        super().__init__()
        self.address, self.parts = ours.address, ours.parts

    def start(self, machinery: Machinery) -> None:
        """It runs."""

    def request(self, question: Question) -> Request:
        """See the base class."""
        message = pb.BatchRetrieveRequest(requests=[_retrieve(question)])
        for number in range(1, self.users):
            message.requests.add(user_id=f"user-{1000 + number}", max_candidates=question.k)
        path = "/retrieval.v1.RetrievalService/BatchRetrieve"
        return Request(path, message.SerializeToString())

    def read(self, body: bytes, question: Question) -> list[str]:
        """Those of the first user, when all have an answer."""
        results = pb.BatchRetrieveResponse.FromString(body).results
        if any(len(one.response.candidates) != question.k for one in results):
            raise Failed("not every user of a batch has an answer")
        return [one.item_id for one in results[0].response.candidates]


class BarePredict(Peer):
    """The model server itself, with one Predict a request: no exclusions."""

    def start(self, machinery: Machinery) -> None:
        """See the base class."""
        server = machinery.model_server
        self.address, self.parts = server.address, {"model server": server.process}

    def request(self, question: Question) -> Request:
        """See the base class."""
        shape = tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=1)])
        user = [question.user_id.encode()]
        message = tfs.PredictRequest(
            model_spec=tfs.ModelSpec(name=RETRIEVAL, signature_name=BY_USER),
            inputs={
                USER_ID: tfs.Tensor(dtype=tfs.DT_STRING, tensor_shape=shape, string_val=user),
                K: tfs.Tensor(dtype=tfs.DT_INT32, tensor_shape=shape, int_val=[question.k]),
            },
        )
        path = "/tensorflow.serving.PredictionService/Predict"
        return Request(path, message.SerializeToString())

    def read(self, body: bytes, question: Question) -> list[str]:
        """See the base class."""
        del question
        item_ids = tfs.PredictResponse.FromString(body).outputs[ITEM_ID].string_val
        return [one.decode() for one in item_ids]


class FastApi(Peer):
    """A web service with the index in its own process."""

    needs = ("fastapi", "uvicorn", "uvloop", "httptools", "orjson")
    ways = ("def", "async-def")

    def start(self, machinery: Machinery) -> None:
        """See the base class."""
        catalogue = machinery.catalogue
        model = catalogue.models_dir / RETRIEVAL / str(catalogue.version)
        server = machinery.start("fastapi", machinery.role("fastapi", str(model)))
        self.address, self.parts = server.address, {"service": server.process}

    def request(self, question: Question) -> Request:
        """See the base class."""
        asked = {"user_id": question.user_id, "k": question.k, "exclude": question.exclude}
        return Request(f"/{self.way}", json.dumps(asked).encode(), http1=True)

    def read(self, body: bytes, question: Question) -> list[str]:
        """See the base class."""
        del question
        return [one["item_id"] for one in json.loads(body)["candidates"]]

    def call(self, request: Request) -> bytes:
        """See the base class."""
        return http_call(self.address, "POST", request.path, request.body)


def every(recall: float) -> dict[str, Peer]:
    """All peers by name, ours last; ``recall`` of our index is what others have to reach."""
    return {
        "echo-aio": Echo("echo-aio"),
        "echo-threads": Echo("echo-threads"),
        "echo-core": Echo("echo-core"),
        "naive": Naive(),
        "fastapi": FastApi(),
        "chroma": Chroma(recall),
        "shortlist": Shortlist(),
    }


def _retrieve(question: Question) -> pb.RetrieveRequest:
    return pb.RetrieveRequest(
        user_id=question.user_id,
        max_candidates=question.k,
        exclude_seen=question.exclude_seen,
        exclude_item_ids=question.exclude,
    )
