"""Requests, serialised before the load begins."""

from collections.abc import Sequence
from typing import Literal

from retrieval.v1 import retrieval_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name
RETRIEVE, BATCH_RETRIEVE = f"/{SERVICE}/Retrieve", f"/{SERVICE}/BatchRetrieve"
#: Field 1 of BatchRetrieveRequest, ``requests``: a message with its length.
_REQUESTS_TAG = b"\x0a"


class Requests:
    """The serialised requests of the n-th call, for any n from 0; ids are used in a cycle.

    The part that all requests share, such as 10,000 exclusions, is kept once and appended to the
    id when a request is sent: concatenated messages are merged by protobuf.
    """

    def __init__(
        self,
        kind: Literal["user_id", "item_id"],
        ids: Sequence[str],
        *,
        k: int,
        exclude_seen: bool = False,
        exclude: Sequence[str] = (),
        batch: int = 0,
    ) -> None:
        """Serialise requests for at least one id; ``batch`` of them per call, or 0 for Retrieve.

        Raises:
            ValueError: ``k`` does not fit into an int32.
        """
        self.batch = batch
        self.calls_per_round = max(1, len(ids) // max(1, batch))
        self._shared = pb.RetrieveRequest(
            max_candidates=k, exclude_seen=exclude_seen, exclude_item_ids=exclude
        ).SerializeToString()
        by_user = kind == "user_id"
        messages = [
            pb.RetrieveRequest(user_id=one) if by_user else pb.RetrieveRequest(item_id=one)
            for one in ids
        ]
        heads = [message.SerializeToString() for message in messages]
        if batch:
            heads = [_REQUESTS_TAG + _varint(len(one) + len(self._shared)) + one for one in heads]
        self._heads = heads

    @property
    def method(self) -> str:
        """Return the path of the gRPC method."""
        return BATCH_RETRIEVE if self.batch else RETRIEVE

    def __getitem__(self, n: int) -> bytes:
        heads, shared = self._heads, self._shared
        if not self.batch:
            return heads[n % len(heads)] + shared
        first = n * self.batch
        return b"".join(
            heads[place % len(heads)] + shared for place in range(first, first + self.batch)
        )


def _varint(value: int) -> bytes:
    """Encode a length as protobuf does: 7 bits per byte, the lowest bits first."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
