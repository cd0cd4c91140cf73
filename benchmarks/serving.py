"""Starts model servers and query services for benchmarks, and calls them directly."""

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
    """Start the project's own model server with the approximate index in ``models_dir``."""
    models = ("--models-dir", str(models_dir), "--model", RETRIEVAL)
    command = python_module("model_server", *models, *options, "--port", "0")
    return Server(command, log=log, restart_nice=restart_nice)


def start_query_service(log: Path, model_servers: Sequence[Server], *options: str) -> Server:
    """Start a query service that calls ``model_servers``."""
    upstream = ("--model-server", ",".join(server.address for server in model_servers))
    command = python_module("query_service serve", *upstream, *options, "--port", "0")
    return Server(command, log=log)


def current_version(models_dir: Path) -> Path:
    """Return the directory of the served version. Its name is the version number."""
    return (models_dir / CURRENT).resolve()


def published_dataset(models_dir: Path) -> dict[str, Any]:
    """Return the entry "dataset" from the report on the served version."""
    version = current_version(models_dir)
    report = json.loads((version / REPORTS / version.name / METRICS_JSON).read_text("utf-8"))
    dataset: dict[str, Any] = report["dataset"]
    return dataset


def tensor(dtype: tfs.DataType, *shape: int, **values: Any) -> tfs.Tensor:
    """Return a tensor; ``values`` sets the field of its type, for example ``int_val=[1]``."""
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
    """Return a callable for the RPC ``path`` that takes and returns serialised messages."""
    return channel.unary_unary(path)
