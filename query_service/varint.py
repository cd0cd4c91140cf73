"""Reads protobuf's variable-length integers.

Seven bits per byte, the lowest first; the highest bit of a byte says that another one follows
(https://protobuf.dev/programming-guides/encoding/#varints). The protobuf library has no public
function for them.
"""

_MAX_BYTES = 10


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer at ``position`` and the position after it.

    Raises:
        ValueError: the integer does not end within the data, or has more than ten bytes.
    """
    value = 0
    for place, byte in enumerate(data[position : position + _MAX_BYTES]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise ValueError("a varint does not end")
