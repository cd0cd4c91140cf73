"""The implementation of retrieval.v1.InteractionService."""

from __future__ import annotations

import asyncio
from typing import Any

from query_service.api import wire
from query_service.api.methods import Method
from query_service.api.validation import MAX_INTERACTIONS, check_id
from query_service.errors import InvalidRequest, OutOfTime
from query_service.stores.base import Pair, Store
from retrieval.v1 import interaction_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["InteractionService"].full_name


class InteractionServicer:
    """Records interactions in the seen store.

    Attributes:
        methods: The methods of the service by name.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.methods: dict[str, Method[Any]] = {
            "RecordInteractions": Method(
                pb.RecordInteractionsRequest, self._record, check=wire.check_interactions
            )
        }

    async def _record(self, request: pb.RecordInteractionsRequest, deadline: float) -> bytes:
        pairs = _pairs(request)
        try:
            async with asyncio.timeout_at(deadline):
                new = await self._store.record(pairs)
        except TimeoutError:
            raise OutOfTime("the deadline passed while recording interactions") from None
        return pb.RecordInteractionsResponse(new_interactions=new).SerializeToString()


def _pairs(request: pb.RecordInteractionsRequest) -> list[Pair]:
    """Return (user id, item id) pairs. Raises InvalidRequest for the first invalid field."""
    count = len(request.interactions)
    if not 1 <= count <= MAX_INTERACTIONS:
        raise InvalidRequest(
            "interactions", f"must have 1 to {MAX_INTERACTIONS} entries, not {count}"
        )
    pairs = [(interaction.user_id, interaction.item_id) for interaction in request.interactions]
    for position, (user_id, item_id) in enumerate(pairs):
        check_id(f"interactions[{position}].user_id", user_id)
        check_id(f"interactions[{position}].item_id", item_id)
    return pairs
