"""Measure the first answer of a version that has just been loaded, and the memory it takes.

Starts the project's own model server on MODELS_DIR, waits until the model is available, and calls
``by_vector`` with k = 100, once and then 300 times more. The client is warm, because it has asked
the server for a model that does not exist. Prints medians over the starts and their range.
"""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from benchmarks import reporting
from tools.processes import Server, python_module
from tools.usage import memory_mib
from tools.waiting import until

_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_LATER_CALLS = 300
_LOAD_TIMEOUT_S = 600.0


def main() -> None:
    """Measure and print."""
    parser = reporting.argument_parser("benchmarks.index.first_answer", __doc__)
    parser.add_argument("models_dir", type=Path, help="Directory with published models.")
    parser.add_argument("--model", default="retrieval", help="Name of the model.")
    parser.add_argument("--starts", type=int, default=5, help="Starts of the model server.")
    arguments = parser.parse_args()
    starts = [measure(arguments.models_dir, arguments.model) for _ in range(arguments.starts)]
    for name, values in (
        ("first answer, ms", [first for first, _, _ in starts]),
        ("median of the later answers, ms", [later for _, later, _ in starts]),
        ("first answer relative to that median", [first / later for first, later, _ in starts]),
        ("resident memory of the model server, GB", [memory for _, _, memory in starts]),
    ):
        print(f"{name:42} {reporting.median_and_range(values, 2)}")


def measure(models_dir: Path, model: str) -> tuple[float, float, float]:
    """Return the first answer and the median of the later ones in ms, and the memory in GB."""
    models = ("--models-dir", str(models_dir.resolve()), "--model", model)
    command = python_module("model_server", *models, "--port", "0")
    with (
        tempfile.TemporaryDirectory() as directory,
        Server(command, log=Path(directory) / "model-server.log") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        until(lambda: _available(channel, stub, model), _LOAD_TIMEOUT_S, f"{model} is available")
        request = _request(model, _dimensions(stub, model))
        times_ms = []
        for _ in range(1 + _LATER_CALLS):
            started = time.perf_counter()
            stub.Predict(request, timeout=60)
            times_ms.append((time.perf_counter() - started) * 1e3)
        memory_gb = sum(memory_mib(server.process)) * 1024**2 / 1e9
        return times_ms[0], statistics.median(times_ms[1:]), memory_gb


def _available(channel: grpc.Channel, stub: Any, model: str) -> bool:
    """Tell whether the model is available, after warming up the client."""
    with contextlib.suppress(grpc.RpcError):
        stub.Predict(_request("none", 64), timeout=5)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    try:
        versions = models.GetModelStatus(request, timeout=5).model_version_status
    except grpc.RpcError:
        return False
    return any(version.state == _AVAILABLE for version in versions)


def _dimensions(stub: Any, model: str) -> int:
    """Return the length of the model's vectors, from its signature."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    signatures = get_model_metadata_pb2.SignatureDefMap()
    stub.GetModelMetadata(request, timeout=30).metadata["signature_def"].Unpack(signatures)
    shape = signatures.signature_def["by_vector"].inputs["vector"].tensor_shape
    return int(shape.dim[1].size)


def _request(model: str, dimensions: int) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "by_vector"
    vector = np.random.default_rng(0).normal(size=(1, dimensions)).astype(np.float32)
    request.inputs["vector"].CopyFrom(tf.make_tensor_proto(vector / np.linalg.norm(vector)))
    request.inputs["k"].CopyFrom(tf.make_tensor_proto([100], tf.int32))
    return request


if __name__ == "__main__":
    main()
