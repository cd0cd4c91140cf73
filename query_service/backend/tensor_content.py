"""The raw encoding of a tensor's values: what --enable_serialization_as_tensor_content sends."""

import array
import sys

_MAX_BITS = 63


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
    """``count`` strings: the length of each as a varint, then all of them end to end.

    Raises:
        ValueError: the content is longer or shorter than that.
    """
    lengths: list[int] = []
    length = shift = start = 0
    while len(lengths) < count and start < len(content):
        byte = content[start]
        start += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        # Otherwise bytes that never end a number would make one as long as they are.
        if shift > _MAX_BITS:
            raise ValueError("tensor_content has a length of more than 63 bits")
        if byte < 0x80:
            lengths.append(length)
            length = shift = 0
    if len(lengths) != count or start + sum(lengths) != len(content):
        raise ValueError(f"tensor_content does not hold {count} strings")
    strings = []
    for length in lengths:
        strings.append(content[start : start + length])
        start += length
    return strings
