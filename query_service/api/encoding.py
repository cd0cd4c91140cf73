"""Encodes candidates as the bytes of a RetrieveResponse, without creating message objects.

This takes half as long as creating the objects, and encoding is half the cost of a request.
In the wire format (https://protobuf.dev/programming-guides/encoding/), a candidate is a header that
depends only on the length of the item id, followed by the id and the score. protobuf itself makes
the headers, and a test compares our bytes with protobuf's.
"""

import functools
import itertools
import struct

from query_service.core.query import Candidates, Source
from query_service.errors import ModelServerFault
from retrieval.v1 import retrieval_service_pb2 as pb
from serving_contract import MAX_ID_BYTES

_ORIGINS = {Source.MODEL: pb.ORIGIN_MODEL, Source.POPULARITY: pb.ORIGIN_POPULARITY}

#: The tag of Candidate.score (field 2, four bytes), and the layout of tag and score together.
_SCORE_TAG = 0x15
_SCORE = struct.Struct("<Bf")


def _header(length: int) -> bytes:
    """Return the bytes of a candidate that come before an item id of ``length`` bytes."""
    candidate = pb.Candidate(item_id="x" * length, score=1.0)
    data = pb.RetrieveResponse(candidates=[candidate]).SerializeToString()
    return data[: len(data) - length - _SCORE.size]


_HEADERS = [_header(length) for length in range(MAX_ID_BYTES + 1)]


def encode_response(candidates: Candidates) -> bytes:
    """Return the serialized RetrieveResponse.

    Raises:
        ModelServerFault: An item id has more than MAX_ID_BYTES.
    """
    headers = map(_HEADERS.__getitem__, map(len, candidates.item_ids))
    scores = map(_SCORE.pack, itertools.repeat(_SCORE_TAG), candidates.scores)
    parts = zip(headers, candidates.item_ids, scores, strict=True)
    other_fields = _other_fields(candidates.source, candidates.version)
    try:
        return b"".join(itertools.chain.from_iterable(parts)) + other_fields
    except IndexError as error:
        raise ModelServerFault(f"an item id has more than {MAX_ID_BYTES} bytes") from error


@functools.lru_cache(maxsize=16)
def _other_fields(source: Source, version: int) -> bytes:
    """Return the bytes of all fields except the candidates."""
    fields = pb.RetrieveResponse(origin=_ORIGINS[source], model_version=version)
    return fields.SerializeToString()
