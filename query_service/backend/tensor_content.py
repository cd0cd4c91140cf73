"""The raw encoding of a tensor's values: what --enable_serialization_as_tensor_content sends."""

import array
import sys

from query_service.varint import read_varint


def decode_numbers(content: bytes, typecode: str) -> list[float]:
    """Little-endian values; ``typecode`` as in :mod:`array`.

    Raises:
        ValueError: the content does not end with a value.
    """
    values: array.array[float] = array.array(typecode)
    values.frombytes(content)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def decode_strings(content: bytes, count: int) -> list[bytes]:
    """Return ``count`` strings: the content holds their lengths as varints, then the strings.

    Raises:
        ValueError: the content is longer or shorter than that.
    """
    lengths: list[int] = []
    start = 0
    while len(lengths) < count and start < len(content):
        length = content[start]
        # Nearly all lengths have one byte, and a call for each would take longer.
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
