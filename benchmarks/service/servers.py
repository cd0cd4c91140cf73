"""Server processes of the peers.

    python -m benchmarks.service.servers echo-aio
    python -m benchmarks.service.servers echo-threads
    python -m benchmarks.service.servers echo-core
    python -m benchmarks.service.servers naive MODEL_SERVER
    python -m benchmarks.service.servers fastapi MODEL_DIR
    python -m benchmarks.service.servers build-chroma MODELS_DIR DIRECTORY

Each prints "NAME ready on HOST:PORT" once it answers, and serves until it is terminated.
`build-chroma` builds a collection and ends.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from query_service import transport
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from serving_contract import BY_USER, RETRIEVAL, USER_ID, K
from tfserving_subset.v1 import prediction_pb2 as tfs

#: The number of threads in gRPC's tutorial.
_THREADS = 10
#: Rows added to Chroma in one call, below its limit.
_ROWS = 5_000

#: The answer of the echo servers, which gRPC serialises for each call.
_ECHO = pb.RetrieveResponse(
    candidates=[
        pb.Candidate(item_id=f"item-{1999 * n:08d}", score=0.9 - n / 1000) for n in range(100)
    ],
    origin=pb.ORIGIN_MODEL,
    model_version=1,
)


def predict_request(user_id: str, k: int) -> tfs.PredictRequest:
    """Return a request to the model server for the k nearest items of one user."""
    shape = tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=1)])
    user = tfs.Tensor(dtype=tfs.DT_STRING, tensor_shape=shape, string_val=[user_id.encode()])
    return tfs.PredictRequest(
        model_spec=tfs.ModelSpec(name=RETRIEVAL, signature_name=BY_USER),
        inputs={
            USER_ID: user,
            K: tfs.Tensor(dtype=tfs.DT_INT32, tensor_shape=shape, int_val=[k]),
        },
    )


class EchoAio(pb_grpc.RetrievalServiceServicer):
    """An echo on asyncio, without a model."""

    async def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RetrieveResponse:
        """Return the same 100 candidates for every request."""
        del request, context
        return _ECHO


class EchoThreads(pb_grpc.RetrievalServiceServicer):
    """An echo on threads."""

    def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: grpc.ServicerContext
    ) -> pb.RetrieveResponse:
        """Return the same 100 candidates for every request."""
        del request, context
        return _ECHO


class Naive(pb_grpc.RetrievalServiceServicer):
    """A service as in a tutorial: one Predict per request, and the answer built row by row."""

    def __init__(self, model_server: str) -> None:
        self._predict = grpc.aio.insecure_channel(model_server).unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=tfs.PredictRequest.SerializeToString,
            response_deserializer=tfs.PredictResponse.FromString,
        )

    async def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RetrieveResponse:
        """Ask for as many more candidates as there are exclusions, and drop the excluded ones."""
        excluded = set(request.exclude_item_ids)
        predict = predict_request(request.user_id, request.max_candidates + len(excluded))
        predicted = await self._predict(predict, timeout=context.time_remaining())
        item_ids = predicted.outputs["item_id"].string_val
        scores = predicted.outputs["score"].float_val
        answer = pb.RetrieveResponse(
            origin=pb.ORIGIN_MODEL, model_version=predicted.model_spec.version.value
        )
        for encoded, score in zip(item_ids, scores, strict=True):
            item_id = encoded.decode()
            if item_id not in excluded and len(answer.candidates) < request.max_candidates:
                answer.candidates.append(pb.Candidate(item_id=item_id, score=score))
        return answer


async def _serve_aio(name: str, servicer: Any, make: Callable[[], Any] = grpc.aio.server) -> None:
    server = make()
    pb_grpc.add_RetrievalServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"{name} ready on 127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


async def _serve_naive(model_server: str) -> None:
    # The channel has to be made inside the event loop.
    await _serve_aio("naive", Naive(model_server))


def _serve_threads() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
    pb_grpc.add_RetrievalServiceServicer_to_server(EchoThreads(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"echo-threads ready on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def _serve_fastapi(model: Path) -> None:
    """Serve the SavedModel from the web server's own process, by a sync and an async route."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import orjson
    import scann.scann_ops.py.scann_ops  # noqa: F401  (registers ScaNN's ops)
    import tensorflow as tf
    import uvicorn
    from fastapi import FastAPI, Response
    from pydantic import BaseModel

    loaded = tf.saved_model.load(str(model))
    by_user = loaded.signatures["by_user"]

    class Query(BaseModel):
        user_id: str
        k: int = 100
        exclude: list[str] = []

    def answer(query: Query) -> Response:
        excluded = set(query.exclude)
        depth = query.k + len(excluded)
        found = by_user(user_id=tf.constant([query.user_id]), k=tf.constant([depth]))
        pairs = zip(
            (one.decode() for one in found["item_id"].numpy()[0]),
            found["score"].numpy()[0].tolist(),
            strict=True,
        )
        kept = [(item_id, score) for item_id, score in pairs if item_id not in excluded]
        candidates = [{"item_id": item_id, "score": score} for item_id, score in kept[: query.k]]
        # Serialised here, because FastAPI would validate a declared model field by field.
        return Response(orjson.dumps({"candidates": candidates}), media_type="application/json")

    app = FastAPI()

    async def answer_async(query: Query) -> Response:
        return answer(query)

    app.add_api_route("/def", answer, methods=["POST"])
    app.add_api_route("/async-def", answer_async, methods=["POST"])
    answer(Query(user_id="nobody"))
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    print(f"fastapi ready on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def _build_chroma(models_dir: Path, directory: Path) -> None:
    """Build a collection of all item vectors, with Chroma's defaults except for the space."""
    import chromadb

    from benchmarks.service.catalogue import Catalogue, item_ids

    catalogue = Catalogue(models_dir)
    client = chromadb.PersistentClient(
        str(directory), settings=chromadb.Settings(anonymized_telemetry=False)
    )
    collection = client.create_collection(
        "items", embedding_function=None, configuration={"hnsw": {"space": "ip"}}
    )
    ids = item_ids(catalogue.items)
    for start in range(0, catalogue.items, _ROWS):
        rows = ids[start : start + _ROWS]
        collection.add(
            ids=rows,
            embeddings=catalogue.item_vectors[start : start + _ROWS],
            # Chroma can only filter by metadata.
            metadatas=[{"item_id": item_id} for item_id in rows],
        )


def main() -> None:
    """Run the server that the command line names."""
    role, *rest = sys.argv[1:]
    if role == "echo-aio":
        asyncio.run(_serve_aio(role, EchoAio()))
    elif role == "echo-core":
        asyncio.run(_serve_aio(role, EchoAio(), transport.Server))
    elif role == "echo-threads":
        _serve_threads()
    elif role == "naive":
        asyncio.run(_serve_naive(rest[0]))
    elif role == "fastapi":
        _serve_fastapi(Path(rest[0]))
    else:
        _build_chroma(Path(rest[0]), Path(rest[1]))


if __name__ == "__main__":
    main()
