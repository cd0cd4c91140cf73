"""Looks at large messages before they are parsed.

Two bytes of a message can be a request of a batch, and cost a hundred when it is parsed: 64 MB of
them took ten seconds and 3 GB, only to be refused. The format is protobuf's
(https://protobuf.dev/programming-guides/encoding/).
"""

from query_service.api.validation import (
    MAX_BATCH,
    MAX_EXCLUSIONS,
    MAX_INTERACTIONS,
    MAX_RECENT_ITEMS,
)
from query_service.errors import InvalidRequest

#: What is smaller can be parsed whatever it is: 20 MB, some 50 ms.
LARGE_BYTES = 256 * 1024
#: Beside what may be there often: every other field, and some that a newer client knows.
_OTHERS = 100
_MOST_IN_REQUEST = MAX_EXCLUSIONS + MAX_RECENT_ITEMS + _OTHERS
#: Its fields are there once each.
_MOST_IN_INTERACTION = _OTHERS
#: Of BatchRetrieveRequest.requests and of RecordInteractionsRequest.interactions.
_MESSAGES_TAG = 0x0A


def check_request(data: bytes) -> None:
    """Refuse a RetrieveRequest of more fields than one can have.

    Raises:
        InvalidRequest: that is so.
    """
    _check_count("request", data, 0, len(data), _MOST_IN_REQUEST)


def check_batch(data: bytes) -> None:
    """The same of a BatchRetrieveRequest, and of the requests in it.

    Raises:
        InvalidRequest: that is so.
    """
    _check_messages("requests", data, MAX_BATCH, _MOST_IN_REQUEST)


def check_interactions(data: bytes) -> None:
    """The same of a RecordInteractionsRequest, and of the interactions in it.

    Raises:
        InvalidRequest: that is so.
    """
    _check_messages("interactions", data, MAX_INTERACTIONS, _MOST_IN_INTERACTION)


def _check_messages(name: str, data: bytes, most: int, most_in_each: int) -> None:
    """Of a message whose first field is up to ``most`` messages."""
    at = fields = 0
    while at < len(data):
        fields += 1
        if fields > most + _OTHERS:
            raise InvalidRequest(name, f"must be 1 to {most}")
        tag, begin, at = _field(data, at)
        # A field has two bytes at the least.
        if tag == _MESSAGES_TAG and at - begin > 2 * most_in_each:
            _check_count(f"{name}[{fields - 1}]", data, begin, min(at, len(data)), most_in_each)


def _check_count(name: str, data: bytes, at: int, stop: int, most: int) -> None:
    fields = 0
    while at < stop:
        fields += 1
        if fields > most:
            raise InvalidRequest(name, f"more than {most} fields")
        # Nearly all are texts of less than 128 bytes.
        if data[at] & 0x87 == 2 and at + 1 < stop and data[at + 1] < 0x80:
            at += 2 + data[at + 1]
        else:
            _, _, at = _field(data, at)


def _field(data: bytes, at: int) -> tuple[int, int, int]:
    """Its tag, and where its value begins and ends.

    What is in a group counts as if it were not. A broken field ends where the message does: to
    parse it fails there as well.
    """
    tag, at = _varint(data, at)
    begin = at
    match tag & 7:
        case 0:
            _, at = _varint(data, at)
        case 1:
            at += 8
        case 2:
            length, begin = _varint(data, at)
            at = begin + length
        case 5:
            at += 4
        case 6 | 7:
            at = len(data)
    return tag, begin, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    return 0, len(data)
