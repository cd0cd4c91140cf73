"""Encodes and decodes protobuf's variable-length integers.

Each byte holds seven bits, lowest bits first; its highest bit says whether another byte follows
(https://protobuf.dev/programming-guides/encoding/#varints). The protobuf library has no public
functions for this.
"""

_MAX_VARINT_BYTES = 10


def encode_varint(value: int) -> bytes:
    """Return the bytes of an integer that is at least 0."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer at ``position`` and the position after it.

    Raises:
        ValueError: The integer does not end within the data, or has more than ten bytes.
    """
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a varint does not end")
