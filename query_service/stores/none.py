"""The store that is used if no seen store is configured."""

from collections.abc import Sequence
from typing import NoReturn

from query_service.errors import RecordingUnsupported, SeenStoreUnavailable
from query_service.stores.base import Pair

_MESSAGE = "no seen store is configured; set --seen-store or SHORTLIST_SEEN_STORE"


def open_store(name: str) -> "NoSeenStore":
    """Return a store that holds nothing. Raises ValueError unless the name is ``none``."""
    if name != "none":
        raise ValueError("--seen-store: the name none takes no options")
    return NoSeenStore()


class NoSeenStore:
    """Fails every call, so that no seen items get through."""

    async def seen(self, _user_id: str, _limit: int | None = None) -> NoReturn:
        """Raise SeenStoreUnavailable."""
        raise SeenStoreUnavailable(_MESSAGE)

    async def seen_among(self, _user_id: str, _item_ids: Sequence[bytes]) -> NoReturn:
        """Raise SeenStoreUnavailable."""
        raise SeenStoreUnavailable(_MESSAGE)

    async def record(self, _pairs: Sequence[Pair]) -> NoReturn:
        """Raise RecordingUnsupported."""
        raise RecordingUnsupported(_MESSAGE)

    async def forget(self, _user_id: str) -> NoReturn:
        """Raise RecordingUnsupported."""
        raise RecordingUnsupported(_MESSAGE)

    async def close(self) -> None:
        """Do nothing."""
