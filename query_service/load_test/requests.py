"""Requests that are serialized before the load begins."""

from collections.abc import Sequence
from typing import Literal

from retrieval.v1 import retrieval_service_pb2 as pb
from rpc.varint import encode_varint

SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name
RETRIEVE, BATCH_RETRIEVE = f"/{SERVICE}/Retrieve", f"/{SERVICE}/BatchRetrieve"
#: The tag of BatchRetrieveRequest.requests. The length of a request follows, then the request.
_REQUESTS_TAG = b"\x0a"


class Requests:
    """The serialized messages of all calls, which cycle through the ids.

    The fields that all requests share, such as 10,000 exclusions, are serialized once and appended
    to the id of each request. protobuf merges concatenated messages.

    Attributes:
        method: The path of the gRPC method.
        batch: The number of requests in a BatchRetrieve call, or 0 for Retrieve.
        calls_per_round: The number of calls that use each id about once.
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
        """Serialize one request per id.

        Args:
            kind: Whether ``ids`` are user ids or item ids.
            ids: At least one id.
            k: The number of candidates to ask for.
            exclude_seen: Exclude the items that the user has seen.
            exclude: Ids of items to exclude.
            batch: The number of requests in a BatchRetrieve call, or 0 to call Retrieve.
        """
        self.method = BATCH_RETRIEVE if batch else RETRIEVE
        self.batch = batch
        self.calls_per_round = max(1, len(ids) // max(1, batch))
        self._shared = pb.RetrieveRequest(
            max_candidates=k, exclude_seen=exclude_seen, exclude_item_ids=exclude
        ).SerializeToString()
        by_user = kind == "user_id"
        self._starts = [
            self._start(
                pb.RetrieveRequest(user_id=id_) if by_user else pb.RetrieveRequest(item_id=id_)
            )
            for id_ in ids
        ]

    def _start(self, request: pb.RetrieveRequest) -> bytes:
        """Return the bytes of a request that come before the shared fields."""
        data = request.SerializeToString()
        if self.batch:
            return _REQUESTS_TAG + encode_varint(len(data) + len(self._shared)) + data
        return data

    def __getitem__(self, call: int) -> bytes:
        starts, shared = self._starts, self._shared
        if not self.batch:
            return starts[call % len(starts)] + shared
        first = call * self.batch
        return b"".join(
            starts[number % len(starts)] + shared for number in range(first, first + self.batch)
        )
