"""A real gRPC server that misbehaves on purpose, and query services on free ports."""

import array
import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from query_service.server import Server
from query_service.settings import Settings
from retrieval.v1 import retrieval_service_pb2_grpc
from serving_contract import BY_ITEM, BY_USER, BY_USER_AND_HISTORY, SEEN_SCHEMA
from tests.query_service.redis_server import RedisServer
from tfserving_subset.v1 import prediction_pb2 as pb

#: Behaviour has to be the same on both gRPC servers.
TRANSPORTS = ("fast", "aio")

_INPUTS = {
    BY_USER: {"user_id", "k"},
    BY_ITEM: {"item_id", "k"},
    BY_USER_AND_HISTORY: {"user_id", "history", "k"},
}


class FakeModelServer:
    """A gRPC server with the methods of TensorFlow Serving that the service calls.

    Tests set its attributes to change its answers.

    Attributes:
        ranking: the ranking of every user, best first; also the items that the model knows.
        known: False if the model knows no user.
        error: the status of every call; None for normal answers.
        delay_s: how long a Predict takes.
        as_content: send tensors as tensor_content.
        spoil: changes each answer before it is sent.
        called: is called with the context of each Predict.
        depths: the depths of each Predict so far.
        signatures: the signature of each Predict so far.
        histories: the histories of each Predict so far.
        remaining_s: the time left of each Predict when it arrived.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.ranking: list[str] = [f"i{n}" for n in range(50)]
        self.known = True
        self.version = 7
        self.versions_without_history: set[int] = set()
        self.state = pb.ModelVersionStatus.AVAILABLE
        self.error: tuple[grpc.StatusCode, str] | None = None
        self.delay_s = 0.0
        self.as_content = False
        self.spoil: Callable[[pb.PredictResponse], None] | None = None
        self.depths: list[list[int]] = []
        self.signatures: list[str] = []
        self.histories: list[list[list[str]]] = []
        self.remaining_s: list[float] = []
        self.called: Callable[[grpc.ServicerContext], object] = lambda _context: None
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        handlers: dict[str, tuple[Any, Any]] = {
            "Predict": (self._predict, pb.PredictRequest),
            "GetModelStatus": (self._status, pb.GetModelStatusRequest),
        }
        for service, method in (
            ("tensorflow.serving.PredictionService", "Predict"),
            ("tensorflow.serving.ModelService", "GetModelStatus"),
        ):
            behaviour, request = handlers[method]
            handler: Any = grpc.unary_unary_rpc_method_handler(
                behaviour,
                request_deserializer=request.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {method: handler}),)
            )
        place = "127.0.0.1:0"
        self.port = (
            self._server.add_secure_port(place, credentials)
            if credentials
            else self._server.add_insecure_port(place)
        )
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _predict(self, request: Any, context: grpc.ServicerContext) -> pb.PredictResponse:
        self.called(context)
        self.remaining_s.append(context.time_remaining())
        self.signatures.append(request.model_spec.signature_name)
        time.sleep(self.delay_s)
        if self.error:
            context.abort(*self.error)
        signature = request.model_spec.signature_name
        if signature == BY_USER_AND_HISTORY and self.version in self.versions_without_history:
            message = f'Serving signature key "{signature}" not found.'
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, message)
        assert set(request.inputs) == _INPUTS[signature]
        argument = "item_id" if signature == BY_ITEM else "user_id"
        ids = [one.decode() for one in request.inputs[argument].string_val]
        depths = list(request.inputs["k"].int_val)
        histories = self._histories(request, len(ids))
        self.depths.append(depths)
        width = max(depths)
        item_ids: list[bytes] = []
        scores: list[float] = []
        for one, depth in zip(ids, depths, strict=True):
            ranking = [item for item in self.ranking if argument == "user_id" or item != one]
            if argument == "item_id" and not self._knows(argument, one):
                ranking = []
            row = ranking[:depth]
            gap = width - len(row)
            item_ids += [item.encode() for item in row] + [b""] * gap
            scores += [float(-n) for n in range(len(row))] + [float("-inf")] * gap
        response = pb.PredictResponse()
        response.model_spec.version.value = self.version
        self._fill(response.outputs["item_id"], pb.DT_STRING, [len(ids), width])
        self._fill(response.outputs["score"], pb.DT_FLOAT, [len(ids), width])
        self._fill(response.outputs["known"], pb.DT_BOOL, [len(ids)])
        known = [
            self._knows(argument, one) or any(item in self.ranking for item in history)
            for one, history in zip(ids, histories, strict=True)
        ]
        if self.as_content:
            response.outputs["item_id"].tensor_content = _string_content(item_ids)
            response.outputs["score"].tensor_content = array.array("f", scores).tobytes()
            response.outputs["known"].tensor_content = bytes(known)
        else:
            response.outputs["item_id"].string_val.extend(item_ids)
            response.outputs["score"].float_val.extend(scores)
            response.outputs["known"].bool_val.extend(known)
        if self.spoil:
            self.spoil(response)
        return response

    def _knows(self, argument: str, one: str) -> bool:
        return self.known and (argument == "user_id" or one in self.ranking)

    def _histories(self, request: Any, batch: int) -> list[list[str]]:
        if "history" not in request.inputs:
            return [[] for _ in range(batch)]
        history = request.inputs["history"]
        rows, width = (dim.size for dim in history.tensor_shape.dim)
        assert (rows, rows * width) == (batch, len(history.string_val))
        items = [one.decode() for one in history.string_val]
        self.histories.append([items[row * width : (row + 1) * width] for row in range(rows)])
        return self.histories[-1]

    def _status(self, _request: Any, context: grpc.ServicerContext) -> pb.GetModelStatusResponse:
        if self.error:
            context.abort(*self.error)
        status = pb.ModelVersionStatus(version=self.version, state=self.state)
        return pb.GetModelStatusResponse(model_version_status=[status])

    @staticmethod
    def _fill(tensor: pb.Tensor, dtype: int, shape: list[int]) -> None:
        tensor.dtype = dtype  # type: ignore[assignment]
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)


def _string_content(values: list[bytes]) -> bytes:
    """Return lengths as varints, then the strings, as Tensor::AsProtoTensorContent does."""
    lengths = b""
    for value in values:
        high, low = divmod(len(value), 128)
        lengths += bytes([low | 128, high]) if high else bytes([low])
    return lengths + b"".join(values)


class Service:
    """A query service in a thread of its own, with a channel to it."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server = self._run(self._started(settings))
        self.address = f"127.0.0.1:{self.server.port}"
        self.channel = grpc.insecure_channel(self.address)
        self.stub = retrieval_service_pb2_grpc.RetrievalServiceStub(self.channel)

    def health(self, service: str = "") -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        return int(stub.Check(request, timeout=5).status)

    def stop(self) -> None:
        """Shut down gracefully. A second call does nothing."""
        if self._loop.is_closed():
            return
        self.channel.close()
        self._run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    @staticmethod
    async def _started(settings: Settings) -> Server:
        server = Server(settings)
        await server.start()
        return server


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Restore signal handlers, since ``serve`` leaves its signals ignored at its end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def model_server() -> Iterator[FakeModelServer]:
    fake = FakeModelServer()
    yield fake
    fake.stop()


@pytest.fixture
def serve(model_server: FakeModelServer) -> Iterator[Callable[..., Service]]:
    """Return a function that starts services which use the fake model server."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Service:
            settings = {"model_server": f"127.0.0.1:{model_server.port}", **settings}
            service = Service(Settings(port=0, **{"grace_s": 1.0, "timeout_s": 5.0, **settings}))
            stack.callback(service.stop)
            return service

        yield start


@pytest.fixture
def service(serve: Callable[..., Service], seen_path: Path) -> Service:
    """A service with a seen store."""
    return serve(seen_store=f"sqlite:{seen_path}")


@pytest.fixture
def seen_path(tmp_path: Path) -> Path:
    """A seen store in which ``u1`` has seen i0, i2 and i4."""
    path = tmp_path / "seen.sqlite"
    write_seen(path, {"u1": ["i0", "i2", "i4"]})
    return path


def write_seen(path: Path, seen: dict[str, list[str]]) -> None:
    import sqlite3

    new = path.with_suffix(".new")
    connection = sqlite3.connect(new)
    with connection:
        connection.execute(SEEN_SCHEMA)
        connection.executemany(
            "INSERT INTO seen VALUES (?, ?)",
            [(user, item) for user, items in seen.items() for item in items],
        )
    connection.close()
    new.replace(path)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()
