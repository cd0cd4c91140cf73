"""The servers that Shortlist is compared with, except for Chroma's. Each is started by a command:

    python -m benchmarks.service.servers echo-aio
    python -m benchmarks.service.servers echo-threads
    python -m benchmarks.service.servers echo-core
    python -m benchmarks.service.servers naive MODEL_SERVER
    python -m benchmarks.service.servers fastapi SAVED_MODEL

A server prints "NAME ready on HOST:PORT" once it accepts requests, and runs until it is terminated.
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

from benchmarks import serving
from query_service import transport
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from serving_contract import BY_USER, ITEM_ID, SCORE, USER_ID
from tfserving_subset.v1 import prediction_pb2 as tfs

#: The same number of threads as in gRPC's tutorial.
_THREADS = 10

#: The answer that the echo servers always send. gRPC serialises it again for each call.
_ECHO = pb.RetrieveResponse(
    candidates=[
        pb.Candidate(item_id=f"item-{1999 * n:08d}", score=0.9 - n / 1000) for n in range(100)
    ],
    origin=pb.ORIGIN_MODEL,
    model_version=1,
)


class EchoAio(pb_grpc.RetrievalServiceServicer):
    """An echo server on asyncio, which answers without a model."""

    async def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RetrieveResponse:
        """Return the same 100 candidates for every request."""
        del request, context
        return _ECHO


class EchoThreads(pb_grpc.RetrievalServiceServicer):
    """An echo server on threads, which answers without a model."""

    def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: grpc.ServicerContext
    ) -> pb.RetrieveResponse:
        """Return the same 100 candidates for every request."""
        del request, context
        return _ECHO


class Naive(pb_grpc.RetrievalServiceServicer):
    """A service as in a tutorial: one Predict per request, and an answer built row by row."""

    def __init__(self, model_server: str) -> None:
        self._predict = grpc.aio.insecure_channel(model_server).unary_unary(
            serving.PREDICT,
            request_serializer=tfs.PredictRequest.SerializeToString,
            response_deserializer=tfs.PredictResponse.FromString,
        )

    async def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RetrieveResponse:
        """Request one more candidate per exclusion, and drop the excluded candidates."""
        excluded = set(request.exclude_item_ids)
        user = serving.tensor(tfs.DT_STRING, 1, string_val=[request.user_id.encode()])
        predict = serving.predict_request(
            BY_USER, {USER_ID: user}, request.max_candidates + len(excluded)
        )
        predicted = await self._predict(predict, timeout=context.time_remaining())
        item_ids = predicted.outputs[ITEM_ID].string_val
        scores = predicted.outputs[SCORE].float_val
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
    # Naive creates its channel, which must happen inside the event loop.
    await _serve_aio("naive", Naive(model_server))


def _serve_threads() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
    pb_grpc.add_RetrievalServiceServicer_to_server(EchoThreads(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"echo-threads ready on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def _serve_fastapi(model: Path) -> None:
    """Serve the SavedModel from the process of the web server."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import orjson
    import scann  # noqa: F401  (registers ScaNN's operations)
    import tensorflow as tf
    import uvicorn
    from fastapi import FastAPI, Response
    from pydantic import BaseModel

    loaded = tf.saved_model.load(str(model))
    by_user = loaded.signatures[BY_USER]

    class Query(BaseModel):
        user_id: str
        exclude: list[str] = []

    def retrieve(query: Query) -> Response:
        excluded = set(query.exclude)
        depth = 100 + len(excluded)
        found = by_user(user_id=tf.constant([query.user_id]), k=tf.constant([depth]))
        item_ids = (item_id.decode() for item_id in found[ITEM_ID].numpy()[0])
        pairs = zip(item_ids, found[SCORE].numpy()[0].tolist(), strict=True)
        kept = [(item_id, score) for item_id, score in pairs if item_id not in excluded]
        candidates = [{"item_id": item_id, "score": score} for item_id, score in kept[:100]]
        # Serialised here, because FastAPI would validate a declared response field by field.
        return Response(orjson.dumps({"candidates": candidates}), media_type="application/json")

    app = FastAPI()
    app.add_api_route("/retrieve", retrieve, methods=["POST"])
    retrieve(Query(user_id="nobody"))
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    print(f"fastapi ready on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


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
        sys.exit(f"unknown server: {role}")


if __name__ == "__main__":
    main()
