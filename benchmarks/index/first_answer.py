"""The first answer after a version is AVAILABLE beside the later ones, and the memory it takes.

    python -m benchmarks.index.first_answer MODELS_DIR [--model retrieval] [--starts 5]

Starts the project's own model server on MODELS_DIR, waits until the model is available, and asks
one question through ``by_vector``, k = 100, then 300 more. The client is warm: it has asked the
server for a model that is not there. Medians over the starts and the spread.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import psutil
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[2]
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_LATER = 300
_START_SECONDS = 600.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models_dir", type=Path)
    parser.add_argument("--model", default="retrieval")
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    found = [_start(arguments.models_dir, arguments.model) for _ in range(arguments.starts)]
    for name, values in (
        ("first answer, ms", [one[0] for one in found]),
        ("median of the later ones, ms", [one[1] for one in found]),
        ("first against the median", [one[0] / one[1] for one in found]),
        ("resident memory of the model server, GB", [one[2] for one in found]),
    ):
        print(
            f"{name:42} {statistics.median(values):8.2f}  ({min(values):.2f} to {max(values):.2f})"
        )


def _start(models_dir: Path, model: str) -> tuple[float, float, float]:
    """First answer and median of the later ones in ms, and resident memory in GB."""
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "model_server", "--models-dir", str(models_dir.resolve())),
            *("--model", model, "--port", "0"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split(" ready on ")[1].split(": ")[0]
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            dim = _available(channel, stub, model)
            request = _request(model, dim)
            times = [_timed(stub, request) for _ in range(1 + _LATER)]
        memory = psutil.Process(server.pid).memory_info().rss / 1e9
        return times[0], statistics.median(times[1:]), memory
    finally:
        server.terminate()
        server.wait()


def _available(
    channel: grpc.Channel, stub: prediction_service_pb2_grpc.PredictionServiceStub, model: str
) -> int:
    """Wait for the model; the length of its vectors."""
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = model
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    ends = time.monotonic() + _START_SECONDS
    while time.monotonic() < ends:
        with contextlib.suppress(grpc.RpcError):
            stub.Predict(_request("none", 64), timeout=5)
        try:
            found = models.GetModelStatus(status, timeout=5).model_version_status
            if any(one.state == _AVAILABLE for one in found):
                return _dim(channel, model)
        except grpc.RpcError:
            time.sleep(0.05)
    raise SystemExit(f"{model} is not available")


def _dim(channel: grpc.Channel, model: str) -> int:
    """From the signature, which asks the model nothing."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    packed = stub.GetModelMetadata(request, timeout=30).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    packed.Unpack(signatures)
    shape = signatures.signature_def["by_vector"].inputs["vector"].tensor_shape
    return int(shape.dim[1].size)


def _request(model: str, dim: int) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "by_vector"
    vector = np.random.default_rng(0).normal(size=(1, dim)).astype(np.float32)
    request.inputs["vector"].CopyFrom(tf.make_tensor_proto(vector / np.linalg.norm(vector)))
    request.inputs["k"].CopyFrom(tf.make_tensor_proto([100], tf.int32))
    return request


def _timed(
    stub: prediction_service_pb2_grpc.PredictionServiceStub, request: predict_pb2.PredictRequest
) -> float:
    started = time.perf_counter()
    stub.Predict(request, timeout=60)
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
