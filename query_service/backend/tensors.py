"""Builds the tensors of a Predict request, and reads rankings from a Predict response."""

import array
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from query_service.core.query import Query, RankedItems
from rpc.varint import read_varint
from serving_contract import FILLER_ITEM_ID, ITEM_ID, KNOWN, SCORE
from tfserving_subset.v1 import prediction_pb2 as pb

_TYPES = ((ITEM_ID, pb.DT_STRING), (SCORE, pb.DT_FLOAT), (KNOWN, pb.DT_BOOL))


def string_tensor(values: Iterable[str], shape: Sequence[int]) -> pb.Tensor:
    """Return a string tensor of the values, which are in row-major order."""
    return pb.Tensor(
        dtype=pb.DT_STRING,
        tensor_shape=_shape(shape),
        string_val=[value.encode("utf-8") for value in values],
    )


def int_tensor(values: Sequence[int]) -> pb.Tensor:
    """Return an int32 tensor [B]."""
    return pb.Tensor(dtype=pb.DT_INT32, tensor_shape=_shape((len(values),)), int_val=values)


def history_tensor(queries: Sequence[Query]) -> pb.Tensor:
    """Return the recent items of the queries, string [B, H], padded at the end of each row.

    A padding item takes two bytes on the wire. The worst batch, with one history of 1,000 items and
    255 of one item, has half a megabyte of padding, which is not worth a second Predict.
    """
    width = max(len(query.recent) for query in queries)
    rows = [(*query.recent, *[FILLER_ITEM_ID] * (width - len(query.recent))) for query in queries]
    return string_tensor(itertools.chain.from_iterable(rows), (len(queries), width))


def read_rankings(response: pb.PredictResponse, depths: Sequence[int]) -> list[RankedItems]:
    """Return the ranking of each row, cut to the depth of its query.

    Raises:
        ValueError: The response breaks the serving contract.
    """
    item_id, score, known = (_output(response, name, dtype) for name, dtype in _TYPES)
    batch = len(depths)
    sizes = [dim.size for dim in item_id.tensor_shape.dim]
    if len(sizes) != 2 or sizes[0] != batch:
        raise ValueError(f"item_id has shape {sizes[:4]} for {batch} queries")
    width = sizes[1]
    # The server chooses between two encodings, and packs the values into tensor_content if it runs
    # with --enable_serialization_as_tensor_content. The values are copied into lists because every
    # access to a field of a message creates new objects.
    if item_id.tensor_content:
        item_ids = decode_strings(item_id.tensor_content, batch * width)
    else:
        item_ids = list(item_id.string_val)
    scores = _numbers(score, "f", score.float_val)
    known_flags = _numbers(known, "b", known.bool_val)
    if len(item_ids) != batch * width or len(scores) != batch * width or len(known_flags) != batch:
        raise ValueError("the sizes of item_id, score and known do not agree")
    _check_utf8(item_ids)
    # The sum is NaN or +inf if a score is. The score of the filler, -inf, is allowed.
    if not sum(scores) < math.inf:
        raise ValueError("a score is not a finite number")
    version = response.model_spec.version.value
    if version < 1:
        raise ValueError(f"version {version} is not positive")
    rankings = []
    for row, depth in enumerate(depths):
        start = row * width
        stop = start + min(depth, width)
        row_scores = scores[start:stop]
        if row_scores != sorted(row_scores, reverse=True):
            raise ValueError("scores are not in descending order")
        ranking = RankedItems(item_ids[start:stop], row_scores, bool(known_flags[row]), version)
        rankings.append(ranking)
    return rankings


def _shape(sizes: Sequence[int]) -> pb.TensorShape:
    return pb.TensorShape(dim=[pb.TensorShape.Dim(size=size) for size in sizes])


def _output(response: pb.PredictResponse, name: str, dtype: int) -> pb.Tensor:
    if name not in response.outputs:
        raise ValueError(f"there is no output {name}")
    tensor = response.outputs[name]
    if tensor.dtype != dtype:
        raise ValueError(f"{name} has the wrong type")
    return tensor


def _numbers(tensor: pb.Tensor, typecode: str, values: Sequence[Any]) -> list[Any]:
    if tensor.tensor_content:
        return decode_numbers(tensor.tensor_content, typecode)
    return list(values)


def _check_utf8(item_ids: Sequence[bytes]) -> None:
    """Raise ValueError unless all ids are UTF-8, because they are sent to callers unchanged."""
    # The separator keeps two incomplete ids from forming a valid character together.
    joined = b"\n".join(item_ids)
    if not joined.isascii():
        joined.decode("utf-8")


def decode_numbers(content: bytes, typecode: str) -> list[float]:
    """Return the numbers in a ``tensor_content``. Raises ValueError if its length is wrong.

    ``typecode`` is a type code of :mod:`array`, such as ``f``.
    """
    values: array.array[float] = array.array(typecode)
    values.frombytes(content)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def decode_strings(content: bytes, count: int) -> list[bytes]:
    """Return the ``count`` strings in a ``tensor_content``, which follow their lengths as varints.

    Raises:
        ValueError: The content is too long or too short for ``count`` strings.
    """
    lengths: list[int] = []
    start = 0
    while len(lengths) < count and start < len(content):
        length = content[start]
        # Most lengths take a single byte; calling a function for each would be slower.
        if length < 0x80:
            start += 1
        else:
            length, start = read_varint(content, start)
        lengths.append(length)
    if len(lengths) != count or start + sum(lengths) != len(content):
        raise ValueError(f"tensor_content does not hold {count} strings")
    strings = []
    for length in lengths:
        strings.append(content[start : start + length])
        start += length
    return strings
