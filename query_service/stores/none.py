"""The store that is used if no seen store is configured."""

from typing import NoReturn

from query_service.errors import RecordingUnsupported, SeenStoreUnavailable

_MESSAGE = "no seen store is configured; set --seen-store or SHORTLIST_SEEN_STORE"


def open_store(name: str) -> "NoSeenStore":
    """Return a store that holds nothing. Raises ValueError unless the name is ``none``."""
    if name != "none":
        raise ValueError("--seen-store: the name none takes no options")
    return NoSeenStore()


class NoSeenStore:
    """Fails every call, so that an answer never contains seen items by mistake."""

    async def seen(self, *_: object) -> NoReturn:
        """Raise SeenStoreUnavailable."""
        raise SeenStoreUnavailable(_MESSAGE)

    async def record(self, *_: object) -> NoReturn:
        """Raise RecordingUnsupported."""
        raise RecordingUnsupported(_MESSAGE)

    async def close(self) -> None:
        """Do nothing."""

    seen_among = seen
    forget = record
