"""The generated code is current, and our subset of TensorFlow Serving's messages matches its own.

The query service speaks to TensorFlow Serving with the few messages of
``proto/tfserving_subset``, so that it does not need TensorFlow to be installed.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, predict_pb2

from query_service.backend.tensors import decode_strings
from tfserving_subset.v1 import prediction_pb2 as subset
from tools.processes import ROOT


def test_generated_code_matches_the_proto_files(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "proto" / "generate.py", "--out", tmp_path], check=True, timeout=60
    )
    generated = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert generated
    for path in generated:
        assert (ROOT / "proto" / path).read_bytes() == (tmp_path / path).read_bytes(), path


def _assert_same_fields(ours: Descriptor, official: Descriptor) -> None:
    integers = {FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_INT32}
    for field in ours.fields:
        other = official.fields_by_number[field.number]
        assert field.name == other.name
        assert field.type == other.type or {field.type, other.type} <= integers, field.full_name
        assert field.is_repeated == other.is_repeated, field.full_name
        assert field.is_packed == other.is_packed, field.full_name
        if field.message_type and other.message_type and field.message_type != other.message_type:
            _assert_same_fields(field.message_type, other.message_type)


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        (subset.Tensor, tensor_pb2.TensorProto),
        (subset.ModelSpec, model_pb2.ModelSpec),
        (subset.PredictRequest, predict_pb2.PredictRequest),
        (subset.PredictResponse, predict_pb2.PredictResponse),
        (subset.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
        (subset.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    ],
)
def test_subset_has_the_fields_of_tensorflow_serving(ours: Any, official: Any) -> None:
    _assert_same_fields(ours.DESCRIPTOR, official.DESCRIPTOR)


def test_subset_serializes_to_the_bytes_of_tensorflow_serving() -> None:
    request = subset.PredictRequest(
        model_spec=subset.ModelSpec(name="retrieval", signature_name="by_user"),
        output_filter=["score"],
    )
    request.model_spec.version.value = 3
    shape = subset.TensorShape(dim=[subset.TensorShape.Dim(size=2)])
    request.inputs["user_id"].CopyFrom(
        subset.Tensor(dtype=subset.DT_STRING, tensor_shape=shape, string_val=[b"42", b"\xff"])
    )
    request.inputs["k"].CopyFrom(
        subset.Tensor(dtype=subset.DT_INT32, tensor_shape=shape, int_val=[1, -2])
    )
    data = request.SerializeToString(deterministic=True)
    official = predict_pb2.PredictRequest.FromString(data)
    assert official.SerializeToString(deterministic=True) == data
    assert list(official.inputs["k"].int_val) == [1, -2]
    assert official.inputs["user_id"].dtype == tf.string.as_datatype_enum
    assert official.model_spec.version.value == 3
    assert subset.PredictRequest.FromString(official.SerializeToString()) == request


def test_strings_in_tensor_content_decode_as_in_tensorflow() -> None:
    strings = [b"ab", b"", b"x" * 127, b"y" * 300, b"z"]
    content = b"\x02\x00\x7f\xac\x02\x01" + b"".join(strings)
    shape = subset.TensorShape(dim=[subset.TensorShape.Dim(size=len(strings))])
    tensor = subset.Tensor(dtype=subset.DT_STRING, tensor_shape=shape, tensor_content=content)
    assert list(tf.io.parse_tensor(tensor.SerializeToString(), tf.string).numpy()) == strings
    assert decode_strings(content, len(strings)) == strings
