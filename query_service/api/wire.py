"""Limits on large messages, checked before they are parsed.

A request in a batch can be as small as two bytes, but takes about a hundred bytes when parsed. A
message of 64 MB took ten seconds and 3 GB to parse, only to be refused afterwards. For the format,
see https://protobuf.dev/programming-guides/encoding/.
"""

from query_service.api.validation import (
    MAX_BATCH,
    MAX_EXCLUSIONS,
    MAX_INTERACTIONS,
    MAX_RECENT_ITEMS,
)
from query_service.errors import InvalidRequest
from rpc.varint import read_varint

#: Messages up to this size are parsed unchecked, which takes at most 20 MB and about 50 ms.
LARGE_BYTES = 256 * 1024
#: The number of other fields that a message may have: fields that are not repeated, and fields that
#: only newer clients know.
_MAX_OTHER_FIELDS = 100
_MAX_REQUEST_FIELDS = MAX_EXCLUSIONS + MAX_RECENT_ITEMS + _MAX_OTHER_FIELDS
#: An interaction has no repeated fields.
_MAX_INTERACTION_FIELDS = _MAX_OTHER_FIELDS
#: The tag of BatchRetrieveRequest.requests and of RecordInteractionsRequest.interactions.
_MESSAGES_TAG = 0x0A


def check_request(data: bytes) -> None:
    """Raise InvalidRequest if a RetrieveRequest has more fields than a valid one can have."""
    _check_field_count("request", data, 0, len(data), _MAX_REQUEST_FIELDS)


def check_batch(data: bytes) -> None:
    """Raise InvalidRequest if a BatchRetrieveRequest, or a request in it, has too many fields."""
    _check_messages("requests", data, MAX_BATCH, _MAX_REQUEST_FIELDS)


def check_interactions(data: bytes) -> None:
    """Raise InvalidRequest if a RecordInteractionsRequest has too many fields or interactions."""
    _check_messages("interactions", data, MAX_INTERACTIONS, _MAX_INTERACTION_FIELDS)


def _check_messages(name: str, data: bytes, max_messages: int, max_fields: int) -> None:
    """Check that field 1 holds at most ``max_messages`` messages of ``max_fields`` fields each."""
    position = fields = 0
    while position < len(data):
        fields += 1
        if fields > max_messages + _MAX_OTHER_FIELDS:
            raise InvalidRequest(name, f"must have 1 to {max_messages} entries")
        tag, begin, position = _read_field(data, position)
        # A field has at least two bytes.
        if tag == _MESSAGES_TAG and position - begin > 2 * max_fields:
            end = min(position, len(data))
            _check_field_count(f"{name}[{fields - 1}]", data, begin, end, max_fields)


def _check_field_count(name: str, data: bytes, position: int, end: int, max_fields: int) -> None:
    fields = 0
    while position < end:
        fields += 1
        if fields > max_fields:
            raise InvalidRequest(name, f"must not have more than {max_fields} fields")
        # Nearly all fields are strings whose tag and length take one byte each.
        if data[position] & 0x87 == 2 and position + 1 < end and data[position + 1] < 0x80:
            position += 2 + data[position + 1]
        else:
            _, _, position = _read_field(data, position)


def _read_field(data: bytes, position: int) -> tuple[int, int, int]:
    """Return the tag of the field at ``position``, and where its value starts and ends.

    Fields in a group are counted like other fields. A malformed field is taken to extend to the end
    of the message, which cannot be parsed anyway.
    """
    try:
        tag, position = read_varint(data, position)
        begin = position
        match tag & 7:
            case 0:
                _, position = read_varint(data, position)
            case 1:
                position += 8
            case 2:
                length, begin = read_varint(data, position)
                position = begin + length
            case 5:
                position += 4
            case 6 | 7:
                position = len(data)
    except ValueError:
        return 0, len(data), len(data)
    return tag, begin, position
