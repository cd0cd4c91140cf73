"""Encoded responses have the bytes that protobuf would produce."""

import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from query_service.api.encoding import encode_response
from query_service.core.query import Candidates, Source
from retrieval.v1 import retrieval_service_pb2 as pb
from serving_contract import MAX_ID_BYTES

_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID_BYTES).filter(
    lambda one: len(one.encode()) <= MAX_ID_BYTES
)
# protobuf omits a score of zero. The second test checks that ours is read as zero.
_scores = st.floats(width=32, allow_nan=False).filter(lambda one: one != 0)


@given(
    st.lists(st.tuples(_ids, _scores), max_size=20),
    st.sampled_from(list(Source)),
    st.integers(1, 2**63 - 1),
)
def test_response_has_the_bytes_that_protobuf_produces(
    pairs: list[tuple[str, float]], source: Source, version: int
) -> None:
    ids, scores = [one.encode() for one, _ in pairs], [score for _, score in pairs]
    response = pb.RetrieveResponse(
        candidates=[pb.Candidate(item_id=one, score=score) for one, score in pairs],
        origin=pb.ORIGIN_MODEL if source is Source.MODEL else pb.ORIGIN_POPULARITY,
        model_version=version,
    )
    assert encode_response(Candidates(ids, scores, source, version)) == response.SerializeToString()


def test_every_id_length_and_special_scores_are_encoded() -> None:
    ids = [b"x" * length for length in range(1, MAX_ID_BYTES + 1)]
    scores = [0.0, -0.0, math.inf, -math.inf, 1e-45, *range(5, MAX_ID_BYTES)]
    read = pb.RetrieveResponse.FromString(encode_response(Candidates(ids, scores, Source.MODEL, 1)))
    assert [candidate.item_id.encode() for candidate in read.candidates] == ids
    found = [struct.pack("<f", candidate.score) for candidate in read.candidates]
    assert found == [struct.pack("<f", one) for one in scores]
