"""TensorProto to NumPy and back, by TensorFlow Serving's rules."""

import math
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2

#: A request cannot make the server set aside more than this many elements.
MAX_ELEMENTS = 1 << 28

_KINDS: dict[int, tuple[Any, str]] = {
    types_pb2.DT_FLOAT: (np.float32, "float_val"),
    types_pb2.DT_DOUBLE: (np.float64, "double_val"),
    types_pb2.DT_INT32: (np.int32, "int_val"),
    types_pb2.DT_INT64: (np.int64, "int64_val"),
    types_pb2.DT_BOOL: (np.bool_, "bool_val"),
    types_pb2.DT_STRING: (object, "string_val"),
}
_ZERO: dict[Any, Any] = {object: b""}
#: The tag of TensorProto.float_val, field 5, length-delimited.
_FLOAT_VAL = b"\x2a"


class TensorParsingError(ValueError):
    """A TensorProto whose parts do not fit together."""


def decode(proto: Message) -> NDArray[Any]:
    """The array of a TensorProto.

    A non-empty ``tensor_content`` wins and must have the right size. Of the typed
    values too few repeat the last one, none give zeros, surplus is ignored.

    Raises:
        TensorParsingError: unknown dtype or rank, negative or excessive sizes,
            content of another size.
    """
    tensor: Any = proto
    if tensor.dtype not in _KINDS:
        raise TensorParsingError("dtype")
    dtype, field = _KINDS[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape) or len(shape) > 254:
        raise TensorParsingError("shape")
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise TensorParsingError("size")
    try:
        if tensor.tensor_content:
            return _from_content(tensor.tensor_content, dtype, count).reshape(shape)
        values = getattr(tensor, field)[:count]
        array = np.full(count, values[-1] if values else _ZERO.get(dtype, 0), dtype=dtype)
        if values:
            array[: len(values)] = values
        return array.reshape(shape)
    except ValueError as error:
        # More dimensions than NumPy has, or a product that overflows.
        raise TensorParsingError(str(error)) from error


def encode(array: NDArray[Any], dtype: int, proto: Any) -> None:
    """Fill an empty TensorProto with typed values, of the graph's own ``dtype``."""
    if dtype not in _KINDS:
        import tensorflow as tf

        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = dtype
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == types_pb2.DT_FLOAT and array.size:
        # Packed, the field is the array's own bytes.
        data = array.astype("<f4", copy=False).tobytes()
        proto.MergeFromString(_FLOAT_VAL + _varint(len(data)) + data)
    else:
        getattr(proto, _KINDS[dtype][1]).extend(array.ravel().tolist())


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _from_content(content: bytes, dtype: Any, count: int) -> NDArray[Any]:
    if dtype is object:
        return _strings(content, count)
    if len(content) != count * np.dtype(dtype).itemsize:
        raise TensorParsingError("content size")
    return np.frombuffer(content, dtype)


def _strings(content: bytes, count: int) -> NDArray[Any]:
    """Strings are encoded as all lengths (varints), then all bytes."""
    lengths, position = [], 0
    if count > len(content):
        raise TensorParsingError("content size")
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise TensorParsingError("content")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise TensorParsingError("content size")
    array = np.empty(count, object)
    for index, length in enumerate(lengths):
        array[index] = content[position : position + length]
        position += length
    return array
