"""The interface of seen stores."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from query_service.core.filters import SeenStore

#: A user id and an item id.
Pair = tuple[str, str]


class Erased(NamedTuple):
    """The outcome of erasing a user's items from one file or server.

    Attributes:
        place: The file or the server.
        items: The number of items that were erased there.
        failure: The reason why the items there could not be erased; empty on success.
    """

    place: str
    items: int
    failure: str = ""


class Store(SeenStore, Protocol):
    """Knows which items users have seen, and records new ones."""

    async def record(self, pairs: Sequence[Pair]) -> int:
        """Add pairs, and return the number that had not been recorded before.

        Pairs that are recorded already stay recorded, so that a failed call may be repeated.

        Raises:
            SeenStoreUnavailable: The store cannot be written; some of the pairs may be recorded.
            RecordingUnsupported: This kind of store cannot record.
        """

    async def forget(self, user_id: str) -> list[Erased]:
        """Erase all items of a user, and return the outcome for each file or server.

        Raises:
            SeenStoreUnavailable: The store cannot be written.
            RecordingUnsupported: This kind of store has no items.
        """
