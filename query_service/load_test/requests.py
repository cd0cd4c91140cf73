"""What is sent: request bytes, serialised before the load begins."""

from collections.abc import Sequence
from typing import Literal

from retrieval.v1 import retrieval_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name
#: The tag of BatchRetrieveRequest.requests: field 1, a message.
_REQUESTS = b"\x0a"


class Requests:
    """The bytes of the n-th call, for any n from 0: ids are taken in turn, over and over.

    What all requests share, such as 10,000 exclusions, is kept once and joined to the id when
    it is sent: messages on the wire may be put together from parts.
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
        """Requests for ``ids``, at least one; ``batch`` of them in a call, 0: Retrieve.

        Raises:
            ValueError: ``k`` is no int32.
        """
        self.batch = batch
        self.calls_in_a_round = max(1, len(ids) // max(1, batch))
        self._tail = pb.RetrieveRequest(
            max_candidates=k, exclude_seen=exclude_seen, exclude_item_ids=exclude
        ).SerializeToString()
        heads = [
            (
                pb.RetrieveRequest(user_id=one)
                if kind == "user_id"
                else pb.RetrieveRequest(item_id=one)
            ).SerializeToString()
            for one in ids
        ]
        if batch:
            heads = [_REQUESTS + _varint(len(head) + len(self._tail)) + head for head in heads]
        self._heads = heads

    @property
    def method(self) -> str:
        """The path of the method that takes these bytes."""
        return f"/{SERVICE}/{'BatchRetrieve' if self.batch else 'Retrieve'}"

    def __getitem__(self, n: int) -> bytes:
        heads, tail = self._heads, self._tail
        if not self.batch:
            return heads[n % len(heads)] + tail
        first = n * self.batch
        return b"".join(
            heads[place % len(heads)] + tail for place in range(first, first + self.batch)
        )


def _varint(value: int) -> bytes:
    """A length on the wire: 7 bits a byte, the lowest first."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
