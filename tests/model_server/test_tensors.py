"""Tensors are encoded and decoded like those of TensorFlow."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2

from model_server.tensors import TensorParsingError, decode, encode

_ARRAYS = st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.bool_]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


def _encoded(array: np.ndarray, dtype: tf.DType) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto()
    encode(array, dtype.as_datatype_enum, proto)
    return proto


@given(_ARRAYS)
def test_numbers_survive_a_round_trip(array: np.ndarray) -> None:
    dtype = tf.as_dtype(array.dtype)
    typed = _encoded(array, dtype)
    assert not typed.tensor_content
    np.testing.assert_array_equal(tf.make_ndarray(typed), array)
    content = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_content=array.tobytes())
    content.tensor_shape.CopyFrom(typed.tensor_shape)
    for proto in (typed, content):
        np.testing.assert_array_equal(decode(proto), array)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_strings_survive_a_round_trip(values: list[bytes]) -> None:
    array = np.array(values, object)
    typed = _encoded(array, tf.string)
    assert decode(typed).tolist() == values


def test_strings_in_tensor_content_are_decoded() -> None:
    content = bytes([3, 0, 0x80 | 2, 1]) + b"abc" + b"x" * 130
    proto = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum, tensor_content=content)
    proto.tensor_shape.dim.add(size=3)
    assert decode(proto).tolist() == [b"abc", b"", b"x" * 130]
    proto.tensor_content = content[:-1]
    with pytest.raises(TensorParsingError):
        decode(proto)


@given(
    st.integers(0, 25),
    st.lists(st.integers(-(2**62), 2**62), max_size=6),
    st.binary(max_size=30),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
)
def test_any_tensor_is_decoded_or_rejected(
    dtype: int, sizes: list[int], content: bytes, values: list[int]
) -> None:
    proto: Any = tensor_pb2.TensorProto(dtype=dtype, tensor_content=content, int_val=values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    try:
        array = decode(proto)
    except TensorParsingError:
        return
    assert array.shape == tuple(sizes)
