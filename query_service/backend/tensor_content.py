"""Decodes ``tensor_content``, the packed encoding of a tensor's values.

TensorFlow Serving uses it with --enable_serialization_as_tensor_content.
"""

import array
import sys

from query_service.varint import read_varint


def decode_numbers(content: bytes, typecode: str) -> list[float]:
    """Return little-endian numbers as a list; ``typecode`` is one of :mod:`array`.

    Raises:
        ValueError: The length of the content is not a multiple of the size of a number.
    """
    values: array.array[float] = array.array(typecode)
    values.frombytes(content)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def decode_strings(content: bytes, count: int) -> list[bytes]:
    """Return ``count`` strings. The content holds their lengths as varints, then the strings.

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
