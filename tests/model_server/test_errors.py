"""Requests get the status codes and messages of TensorFlow Serving."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from tests.model_server.conftest import Stubs, predict_request, save_version

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.NOT_FOUND


def _status(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=10)
    return raised.value.code(), str(raised.value.details())


def _changed(change: Callable[[Any], None], **inputs: Any) -> Any:
    request = predict_request(**inputs)
    change(request)
    return request


def _version(number: int) -> Callable[[Any], None]:
    def change(request: Any) -> None:
        request.model_spec.version.value = number

    return change


def _label(request: Any) -> None:
    request.model_spec.version_label = "stable"


def _nameless(request: Any) -> None:
    request.model_spec.name = ""


def _negative_size(request: Any) -> None:
    request.inputs["name"].tensor_shape.dim[0].size = -1


def _huge_size(request: Any) -> None:
    request.inputs["name"].tensor_shape.dim[0].size = 2**50


def _short_content(request: Any) -> None:
    request.inputs["k"].ClearField("int_val")
    request.inputs["k"].tensor_content = b"123"


def _filter(*names: str) -> Callable[[Any], None]:
    return lambda request: request.output_filter.extend(names)


_CASES: list[tuple[str, Any, grpc.StatusCode, str]] = [
    ("missing model spec", predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
    ("missing model name", _changed(_nameless), INVALID, "ModelSpec has no name specified."),
    ("unknown model", predict_request("no"), MISSING, "Servable not found for request: Latest(no)"),
    (
        "unknown version",
        _changed(_version(9)),
        MISSING,
        "Servable not found for request: Specific(greeter, 9)",
    ),
    ("version label", _changed(_label), INVALID, "Unrecognized servable version label: stable"),
    (
        "unknown signature",
        predict_request(signature="no"),
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "no" not found.',
    ),
    (
        "missing input",
        predict_request(name=["a"]),
        INVALID,
        "input size does not match signature: 1!=2 len({name}) != len({k,name}). "
        "Sent extra: {}. Missing but required: {k}.",
    ),
    (
        "wrong input name",
        predict_request(name=["a"], q=[1]),
        INVALID,
        "Signature input alias: k(feed name: greet_k:0) not found in request",
    ),
    ("negative size", _changed(_negative_size), INVALID, "tensor parsing error: name"),
    ("huge size", _changed(_huge_size), INVALID, "tensor parsing error: name"),
    ("content of the wrong size", _changed(_short_content), INVALID, "tensor parsing error: k"),
    (
        "wrong dtype",
        predict_request(name=["a"], k=[1.5]),
        INVALID,
        "Expects arg[0] to be int32 but float is provided",
    ),
    (
        "unknown output",
        _changed(_filter("x")),
        INVALID,
        "output tensor alias not found in signature: x Outputs expected to be in the set "
        "{greeting,twice}.",
    ),
    (
        "duplicate output",
        _changed(_filter("twice", "twice")),
        INVALID,
        "duplicate output tensor alias: twice",
    ),
    ("failing operation", predict_request(name=["a"], k=[-1]), INVALID, "k must not be negative"),
]


@pytest.mark.parametrize(
    ("request_", "code", "message"), [case[1:] for case in _CASES], ids=[c[0] for c in _CASES]
)
def test_invalid_predict_request_is_rejected(
    greeter: Stubs, request_: Any, code: grpc.StatusCode, message: str
) -> None:
    found, details = _status(greeter.predict, request_)
    assert found == code
    assert message in details
    assert len(details) <= 1024


def test_invalid_metadata_request_is_rejected(greeter: Stubs) -> None:
    def request(name: str, *fields: str) -> Any:
        made = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        made.model_spec.name = name
        return made

    for asked, code, message in (
        (get_model_metadata_pb2.GetModelMetadataRequest(), INVALID, "Missing ModelSpec"),
        (request("greeter"), INVALID, "must specify at least one metadata_field"),
        (request("greeter", "weights"), INVALID, "Metadata field weights is not supported"),
        (request("no", "signature_def"), MISSING, "Servable not found for request: Latest(no)"),
    ):
        found, details = _status(greeter.metadata, asked)
        assert found == code
        assert message in details


def test_invalid_status_request_is_rejected(greeter: Stubs) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    assert _status(greeter.status, request) == (INVALID, "Missing ModelSpec")
    request.model_spec.name = "no"
    assert _status(greeter.status, request) == (
        MISSING,
        "Could not find any versions of model no",
    )
    request.model_spec.name = "greeter"
    request.model_spec.version.value = 5
    assert _status(greeter.status, request) == (
        MISSING,
        "Could not find version 5 of model greeter",
    )


def test_other_methods_are_unimplemented(greeter: Stubs) -> None:
    classify: Any = greeter.channel.unary_unary("/tensorflow.serving.PredictionService/Classify")
    assert _status(classify, b"")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_requests_beyond_the_limit_are_refused(tmp_path: Path, serve: Any) -> None:
    save_version(tmp_path, 1)
    stubs, _ = serve(tmp_path, max_workers=1, max_concurrent_rpcs=1)
    big = _changed(_filter("twice"), name=["x" * 1000] * 20_000, k=[1] * 20_000)
    calls = [stubs.predict.future(big, timeout=30) for _ in range(8)]
    codes = {call.code() for call in calls}
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    assert grpc.StatusCode.OK in codes


def test_predict_returns_typed_values(greeter: Stubs) -> None:
    answer = greeter.predict(predict_request(name=["Ada", "Bob"], k=[1, 2]), timeout=10)
    assert tf.make_ndarray(answer.outputs["greeting"]).tolist() == [b"Hello Ada", b"Hello Bob"]
    assert list(answer.outputs["twice"].int_val) == [2, 4], "typed values, not tensor_content"
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("greeter", 1, "greet")
    default = greeter.predict(_changed(_filter("twice"), signature=""), timeout=10)
    assert default.model_spec.signature_name == "serving_default"
    assert list(default.outputs) == ["twice"]
    # The last value is repeated if there are too few, and surplus values are ignored.
    request = predict_request(name=["a"], k=[7, 8])
    request.inputs["name"].tensor_shape.dim[0].size = 2
    request.inputs["k"].int_val.append(9)
    answer = greeter.predict(request, timeout=10)
    assert tf.make_ndarray(answer.outputs["greeting"]).tolist() == [b"Hello a"] * 2
    assert list(answer.outputs["twice"].int_val) == [14, 16]


def test_metadata_contains_the_signatures(greeter: Stubs) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "greeter"
    answer = greeter.metadata(request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def["greet"].outputs) == {"greeting", "twice"}
    assert answer.model_spec.version.value == 1


def test_random_bytes_never_cause_an_internal_error(greeter: Stubs) -> None:
    import random

    source = random.Random(7)
    good = predict_request().SerializeToString()
    raw: Any = greeter.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    codes = set()
    for _ in range(500):
        data = bytearray(good)
        for _ in range(source.randint(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            predict_pb2.PredictRequest.FromString(bytes(data))
        except Exception:  # noqa: BLE001
            continue  # gRPC itself rejects bytes that are not a message.
        call = raw.future(bytes(data), timeout=10)
        codes.add(call.code())
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert not codes & {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
