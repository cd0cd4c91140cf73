"""Fixtures that save small models, and run model servers in this process on free ports."""

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from model_server import cli
from model_server.manager import State
from model_server.server import ModelServer
from model_server.settings import Settings


class _Greeter(tf.Module):
    """A model with a signature ``greet``.

    Inputs: ``name`` string [B] and ``k`` int32 [B], which must not be negative.
    Outputs: ``greeting`` string [B], which is the word and the name, and ``twice`` int32 [B].
    """

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = tf.Variable(word)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "name"),
            tf.TensorSpec([None], tf.int32, "k"),
        ]
    )
    def greet(self, name: Any, k: Any) -> dict[str, Any]:
        check = tf.debugging.assert_non_negative(k, message="k must not be negative")
        with tf.control_dependencies([check]):
            return {"greeting": tf.strings.join([self._word, name]), "twice": k * 2}


def predict_request(model: str = "greeter", signature: str = "greet", **inputs: Any) -> Any:
    """Return a PredictRequest; without ``inputs``, one that the greeter answers."""
    inputs = inputs or {"name": ["Ada"], "k": [1]}
    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name=model, signature_name=signature)
    )
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def save_version(
    models_dir: Path,
    version: int,
    word: str = "Hello ",
    warm_up: Any = None,
    model: str = "greeter",
    change: Callable[[Path], object] | None = None,
) -> None:
    """Publish a version as the trainer does: written to a staging directory, then renamed.

    Args:
        models_dir: the directory of all models.
        version: the number of the version.
        word: what greetings begin with.
        warm_up: the PredictRequest of the warm-up record.
        model: the name of the model.
        change: called with the staging directory before the version is published.
    """
    staging = models_dir / f".staging-{version}"
    module = _Greeter(word)
    tf.saved_model.save(
        module, str(staging), signatures={"greet": module.greet, "serving_default": module.greet}
    )
    extra = staging / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as records:
        log = prediction_log_pb2.PredictLog(request=warm_up or predict_request())
        records.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
    if change:
        change(staging)
    (models_dir / model).mkdir(exist_ok=True)
    staging.rename(models_dir / model / str(version))


class Stubs:
    """The official client stubs of a model server, on one channel."""

    def __init__(self, port: int, credentials: grpc.ChannelCredentials | None = None) -> None:
        address = f"127.0.0.1:{port}"
        self.channel = (
            grpc.secure_channel(address, credentials)
            if credentials
            else grpc.insecure_channel(address)
        )
        self.predict = prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict
        self.metadata = prediction_service_pb2_grpc.PredictionServiceStub(
            self.channel
        ).GetModelMetadata
        self.status = model_service_pb2_grpc.ModelServiceStub(self.channel).GetModelStatus


Serve = Callable[..., tuple[Stubs, ModelServer]]


def greeting(stubs: Stubs) -> str:
    """Return the greeting for Ada."""
    answer = stubs.predict(predict_request(), timeout=10)
    return str(answer.outputs["greeting"].string_val[0].decode())


def model_status(stubs: Stubs, model: str = "greeter") -> Any:
    """Return the ModelVersionStatus of every version that the server knows."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    return stubs.status(request, timeout=10).model_version_status


def status(stubs: Stubs, version: int) -> Any:
    """Return the ModelVersionStatus of one version of the greeter."""
    [found] = [entry for entry in model_status(stubs) if entry.version == version]
    return found


def states(stubs: Stubs) -> dict[int, State]:
    """Return the states of the greeter's versions by version number."""
    return {entry.version: State(entry.state) for entry in model_status(stubs)}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts servers, which are stopped after the test."""
    servers: list[tuple[Stubs, ModelServer]] = []

    def start(models_dir: Path, **settings: Any) -> tuple[Stubs, ModelServer]:
        server = ModelServer(
            Settings(models_dir, port=0, poll_interval_s=0.05, grace_s=1, **settings)
        )
        server.start()
        servers.append((Stubs(server.port), server))
        return servers[-1]

    yield start
    for stubs, server in servers:
        stubs.channel.close()
        server.stop()


@pytest.fixture
def command() -> Iterator[Callable[[list[str]], int]]:
    """Return a function that runs the command in this process, which has imported TensorFlow."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield cli.main
    gc.unfreeze()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def greeter(tmp_path: Path, serve: Serve) -> Stubs:
    """Return stubs of a server with version 1 of the greeter."""
    save_version(tmp_path, 1)
    return serve(tmp_path)[0]
