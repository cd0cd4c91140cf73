"""asyncio or threads? The same work, a Predict and a 100-candidate answer, on either runtime.

    python benchmarks/aio_or_threads.py --models-dir models

Starts the model server once, then in turns the query service (grpc.aio) and a threaded
gRPC server that does the same with a blocking client. Prints requests per second and
latency, the median of the rounds and their spread.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio

from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tfserving_subset.v1 import prediction_pb2 as tfs

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
SECONDS = 3.0
CONCURRENCIES = (1, 8, 32)


class Threaded(pb_grpc.RetrievalServiceServicer):
    """What the query service does for a plain user query, with blocking calls."""

    def __init__(self, model_server: str) -> None:
        self._predict = grpc.insecure_channel(model_server).unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=tfs.PredictRequest.SerializeToString,
            response_deserializer=tfs.PredictResponse.FromString,
        )

    def Retrieve(  # noqa: N802
        self, request: pb.RetrieveRequest, context: grpc.ServicerContext
    ) -> pb.RetrieveResponse:
        """One Predict; its ids and scores as candidates."""
        shape = tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=1)])
        asked = tfs.PredictRequest(
            model_spec=tfs.ModelSpec(name="retrieval", signature_name="by_user")
        )
        user, k = asked.inputs["user_id"], asked.inputs["k"]
        user.CopyFrom(
            tfs.Tensor(dtype=7, tensor_shape=shape, string_val=[request.user_id.encode()])
        )
        k.CopyFrom(tfs.Tensor(dtype=3, tensor_shape=shape, int_val=[request.max_candidates]))
        answer = self._predict(asked, timeout=context.time_remaining())
        ids, scores = answer.outputs["item_id"].string_val, answer.outputs["score"].float_val
        return pb.RetrieveResponse(
            candidates=[
                pb.Candidate(item_id=one.decode(), score=score)
                for one, score in zip(ids, scores, strict=True)
            ],
            origin=pb.ORIGIN_MODEL,
            model_version=answer.model_spec.version.value,
        )


def serve_threaded(model_server: str, workers: int) -> None:
    """Run the threaded server in this process until it is terminated."""
    server = grpc.server(futures.ThreadPoolExecutor(workers))
    pb_grpc.add_RetrievalServiceServicer_to_server(Threaded(model_server), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"threaded ready on 127.0.0.1:{port}: {workers} threads", flush=True)
    server.wait_for_termination()


@contextmanager
def process(*command: str) -> Iterator[str]:
    """A server process; its address."""
    running = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert running.stdout is not None
        yield running.stdout.readline().split(" ready on ")[1].split(": ")[0]
    finally:
        running.terminate()
        running.wait(20)


async def load(address: str, concurrency: int) -> tuple[float, float, float]:
    """Requests per second, p50 and p99 in milliseconds."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.RetrievalServiceStub(channel)
        end = time.perf_counter() + SECONDS

        async def ask(number: int) -> None:
            while (began := time.perf_counter()) < end:
                request = pb.RetrieveRequest(user_id=str(1 + number % 900), max_candidates=100)
                answer = await stub.Retrieve(request, timeout=10)
                assert len(answer.candidates) == 100
                latencies.append(time.perf_counter() - began)
                number += concurrency

        await asyncio.gather(*(ask(number) for number in range(concurrency)))
    cuts = statistics.quantiles(latencies, n=100)
    return len(latencies) / SECONDS, cuts[49] * 1e3, cuts[98] * 1e3


def main() -> None:
    """Measure in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models-dir", default="models")
    parser.add_argument("--threaded", metavar="MODEL_SERVER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threaded:
        serve_threaded(arguments.threaded, 32)
        return
    serving = ("-m", "model_server", "--models-dir", arguments.models_dir, "--port", "0")
    with process(*serving) as upstream:
        asking = ("-m", "query_service", "serve", "--port", "0", "--model-server", upstream)
        commands = {"grpc.aio": asking, "threads": (__file__, "--threaded", upstream)}
        print("runtime   concurrency  req/s median (min-max)   p50 ms  p99 ms")
        for concurrency in CONCURRENCIES:
            results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
            for _ in range(ROUNDS):
                for name, command in commands.items():
                    with process(*command) as address:
                        results[name].append(asyncio.run(load(address, concurrency)))
            for name, rounds in results.items():
                rates, p50, p99 = zip(*rounds, strict=True)
                spread = f"({min(rates):.0f}-{max(rates):.0f})"
                print(
                    f"{name:<9} {concurrency:>11}  {statistics.median(rates):>12.0f} {spread:<12}"
                    f" {statistics.median(p50):>6.2f}  {statistics.median(p99):>6.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
