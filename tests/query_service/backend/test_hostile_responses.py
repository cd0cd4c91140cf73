"""Every response of the model server is either used or reported as a fault of that server."""

import array
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_service.backend.tensors import decode_numbers, decode_strings
from retrieval.v1 import retrieval_service_pb2
from tests.fuzz.predict import PredictAnswers, valid_response
from tests.query_service.conftest import Service
from tfserving_subset.v1 import prediction_pb2 as pb

Code = grpc.StatusCode
_any_size = st.one_of(st.integers(-2, 8), st.sampled_from([10**12, 2**62, -(2**63), 2**63 - 1]))
_any_score = st.one_of(
    st.floats(width=32), st.sampled_from([float("nan"), float("inf"), -float("inf")])
)
_any_id = st.one_of(
    st.binary(max_size=5), st.sampled_from([b"", b"a", b"a" * 257, b"\xc3", b"\xa9"])
)


@pytest.fixture(scope="module")
def answers() -> PredictAnswers:
    return PredictAnswers()


@st.composite
def _tensors(draw: Any) -> pb.Tensor:
    tensor = pb.Tensor(dtype=draw(st.integers(0, 30)))
    for size in draw(st.lists(_any_size, max_size=4)):
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = draw(st.binary(max_size=20))
    tensor.string_val.extend(draw(st.lists(_any_id, max_size=8)))
    tensor.float_val.extend(draw(st.lists(_any_score, max_size=8)))
    tensor.bool_val.extend(draw(st.lists(st.booleans(), max_size=2)))
    return tensor


@settings(max_examples=200)
@given(
    outputs=st.dictionaries(st.sampled_from(["item_id", "score", "known", "?"]), _tensors()),
    version=st.integers(-(2**63), 2**63 - 1),
)
def test_random_tensors_are_used_or_reported(
    answers: PredictAnswers, outputs: dict[str, pb.Tensor], version: int
) -> None:
    response = pb.PredictResponse(outputs=outputs)
    response.model_spec.version.value = version
    answers.run(response.SerializeToString())


@settings(max_examples=200)
@given(
    ids=st.lists(_any_id, min_size=8, max_size=8),
    scores=st.lists(_any_score, min_size=8, max_size=8),
    ordered=st.booleans(),
)
def test_random_values_in_valid_tensors_are_used_or_reported(
    answers: PredictAnswers, ids: list[bytes], scores: list[float], ordered: bool
) -> None:
    if ordered:
        scores = sorted(scores[:4], reverse=True) + sorted(scores[4:], reverse=True)
    response = valid_response(as_content=False)
    response.outputs["item_id"].string_val[:] = ids
    response.outputs["score"].float_val[:] = scores
    answers.run(response.SerializeToString())


@settings(max_examples=200)
@given(st.data())
def test_randomly_changed_bytes_are_used_or_reported(
    answers: PredictAnswers, data: st.DataObject
) -> None:
    changed = bytearray(valid_response(as_content=data.draw(st.booleans())).SerializeToString())
    for place, piece in data.draw(
        st.lists(st.tuples(st.integers(0, len(changed)), st.binary(max_size=3)), max_size=4)
    ):
        changed[place : place + len(piece)] = piece
    answers.run(bytes(changed))


def _no_version(response: pb.PredictResponse) -> None:
    response.model_spec.Clear()


def _content(content: bytes) -> Callable[[pb.PredictResponse], None]:
    def spoil(response: pb.PredictResponse) -> None:
        response.outputs["item_id"].tensor_content = content

    return spoil


def _shape(name: str, *sizes: int) -> Callable[[pb.PredictResponse], None]:
    def spoil(response: pb.PredictResponse) -> None:
        del response.outputs[name].tensor_shape.dim[:]
        for size in sizes:
            response.outputs[name].tensor_shape.dim.add(size=size)

    return spoil


def _type(name: str, dtype: int) -> Callable[[pb.PredictResponse], None]:
    def spoil(response: pb.PredictResponse) -> None:
        response.outputs[name].dtype = dtype  # type: ignore[assignment]

    return spoil


def _values(name: str, values: list[Any]) -> Callable[[pb.PredictResponse], None]:
    def spoil(response: pb.PredictResponse) -> None:
        field = {"item_id": "string_val", "score": "float_val"}[name]
        getattr(response.outputs[name], field)[: len(values)] = values

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _no_version,
        _shape("item_id", 2, 10**12),
        _shape("item_id", 2, -4),
        _shape("item_id", -2, -4),
        _shape("item_id", *[2] * 10_000),
        _shape("item_id"),
        _type("item_id", 9),
        _type("score", 2),
        _type("known", 0),
        _values("score", [float("nan")]),
        _values("score", [float("inf")]),
        _values("score", [1.0, 2.0]),
        # Each id is half of a character; together they would be a valid one.
        _values("item_id", [b"\xc3", b"\xa9"]),
        _content(b"\xff" * 1_000_000),
        _content(b"\xff" * 9 + b"\x01" + b"a" * 100),
    ],
)
def test_invalid_response_is_a_fault_found_cheaply(
    answers: PredictAnswers, spoil: Callable[[pb.PredictResponse], None]
) -> None:
    response = valid_response(as_content=False)
    assert answers.run(response.SerializeToString())
    spoil(response)
    data = response.SerializeToString()
    tracemalloc.start()
    began = time.monotonic()
    assert not answers.run(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(data) + 1_000_000
    assert time.monotonic() - began < 2


@given(st.binary(max_size=60), st.one_of(st.integers(-5, 10), st.just(10**12)))
def test_random_packed_strings_are_decoded_or_rejected(content: bytes, count: int) -> None:
    try:
        strings = decode_strings(content, count)
    except ValueError:
        return
    assert len(strings) == count
    assert content.endswith(b"".join(strings))


@given(st.binary(max_size=60))
def test_random_packed_numbers_are_decoded_or_rejected(content: bytes) -> None:
    try:
        numbers = decode_numbers(content, "f")
    except ValueError:
        assert len(content) % 4
    else:
        assert array.array("f", numbers).itemsize * len(numbers) == len(content)


class _RawModelServer:
    """A model server that answers every call with the same bytes."""

    def __init__(self) -> None:
        self.data = b""
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        for service, method in (
            ("tensorflow.serving.PredictionService", "Predict"),
            ("tensorflow.serving.ModelService", "GetModelStatus"),
        ):
            handler: Any = grpc.unary_unary_rpc_method_handler(lambda *_: self.data)
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {method: handler}),)
            )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def raw() -> Iterator[_RawModelServer]:
    server = _RawModelServer()
    yield server
    server.stop()


@pytest.mark.parametrize("data", [b"\xff", b"\x0a", b"\x08" * 1000, b"\x53" * 1000, bytes(10)])
def test_unparsable_response_is_an_internal_error(
    raw: _RawModelServer, serve: Callable[..., Service], data: bytes
) -> None:
    raw.data = data
    service = serve(model_server=f"127.0.0.1:{raw.port}")
    assert service.health() == 2, "NOT_SERVING"
    with pytest.raises(grpc.RpcError) as raised:
        service.stub.Retrieve(retrieval_service_pb2.RetrieveRequest(user_id="u"), timeout=10)
    assert (raised.value.code(), raised.value.details()) == (Code.INTERNAL, "internal error")


def test_overlong_item_id_fails_only_its_own_request(
    serve: Callable[..., Service], model_server: Any
) -> None:
    model_server.ranking = ["a", "b" * 257]
    batch = retrieval_service_pb2.BatchRetrieveRequest()
    batch.requests.add(user_id="u", max_candidates=1)
    batch.requests.add(user_id="u", max_candidates=2)
    one, other = serve().stub.BatchRetrieve(batch, timeout=10).results
    assert [each.item_id for each in one.response.candidates] == ["a"]
    assert other.error.code == Code.INTERNAL.value[0]
