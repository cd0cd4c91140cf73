"""What every seen store can do."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from query_service.core.retriever import SeenStore

#: A user id and an item id.
Pair = tuple[str, str]


class Erased(NamedTuple):
    """What became of a user's items in one place.

    Attributes:
        place: the file or the server.
        items: how many were erased there.
        failure: why those that are there could not be; empty where nothing is left.
    """

    place: str
    items: int
    failure: str = ""


class Store(SeenStore, Protocol):
    """Knows what users have seen, and is told."""

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Add what was seen; how many of the pairs had not been recorded before.

        What has been recorded already stays: a call that failed may be repeated.

        Raises:
            SeenStoreUnavailable: the store is away; some of the pairs may be recorded.
            RecordingUnsupported: this kind of store cannot.
        """

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase all that is known of a user; what became of it, place by place.

        Raises:
            SeenStoreUnavailable: the store is away.
            RecordingUnsupported: this kind of store holds nothing.
        """
