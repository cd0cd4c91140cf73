"""Model servers and query services that benchmarks start, and bare calls to them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from serving_contract import CURRENT, METRICS_JSON, REPORTS, RETRIEVAL, K
from tfserving_subset.v1 import prediction_pb2 as tfs
from tools.processes import Server, python_module

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def start_model_server(models_dir: Path, log: Path, *options: str, restart_nice: int = 0) -> Server:
    """Start the project's own model server with the approximate index of ``models_dir``."""
    models = ("--models-dir", str(models_dir), "--model", RETRIEVAL)
    command = python_module("model_server", *models, *options, "--port", "0")
    return Server(command, log=log, restart_nice=restart_nice)


def start_query_service(log: Path, model_servers: Sequence[Server], *options: str) -> Server:
    """Start a query service that asks ``model_servers``."""
    upstream = ("--model-server", ",".join(one.address for one in model_servers))
    command = python_module("query_service serve", *upstream, *options, "--port", "0")
    return Server(command, log=log)


def current_version(models_dir: Path) -> Path:
    """Return the directory of the version that is served, which is named after its number."""
    return (models_dir / CURRENT).resolve()


def published_dataset(models_dir: Path) -> dict[str, Any]:
    """Return the entry "dataset" in the report of the version that is served."""
    version = current_version(models_dir)
    report = json.loads((version / REPORTS / version.name / METRICS_JSON).read_text("utf-8"))
    dataset: dict[str, Any] = report["dataset"]
    return dataset


def tensor(dtype: tfs.DataType, *shape: int, **values: Any) -> tfs.Tensor:
    """Return a tensor; ``values`` is the list of its type, such as ``int_val``."""
    dims = [tfs.TensorShape.Dim(size=size) for size in shape]
    return tfs.Tensor(dtype=dtype, tensor_shape=tfs.TensorShape(dim=dims), **values)


def predict_request(
    signature: str, query: Mapping[str, tfs.Tensor], k: int, model: str = RETRIEVAL
) -> tfs.PredictRequest:
    """Return a request to a model server for the k nearest items of one query."""
    return tfs.PredictRequest(
        model_spec=tfs.ModelSpec(name=model, signature_name=signature),
        inputs={**query, K: tensor(tfs.DT_INT32, 1, int_val=[k])},
    )


def method(channel: grpc.Channel, path: str) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    """Return a method that takes and returns serialised messages."""
    return channel.unary_unary(path)
