"""No store: requests that need one fail, the others go on."""

from collections.abc import Sequence
from typing import NoReturn

from query_service.errors import RecordingUnsupported, SeenStoreUnavailable
from query_service.stores.base import Pair

_NONE = "no seen store is configured: --seen-store or SHORTLIST_SEEN_STORE"


class NoSeenStore:
    """Knows nothing, and says so rather than let seen items through."""

    async def seen(self, _user_id: str) -> NoReturn:
        """Always fails."""
        raise SeenStoreUnavailable(_NONE)

    async def seen_if_few(self, _user_id: str, _most: int) -> NoReturn:
        """Always fails."""
        raise SeenStoreUnavailable(_NONE)

    async def seen_among(self, _user_id: str, _item_ids: Sequence[bytes]) -> NoReturn:
        """Always fails."""
        raise SeenStoreUnavailable(_NONE)

    async def record(self, _pairs: Sequence[Pair]) -> NoReturn:
        """Always fails."""
        raise RecordingUnsupported(_NONE)

    async def forget(self, _user_id: str) -> NoReturn:
        """Always fails."""
        raise RecordingUnsupported(_NONE)

    async def close(self) -> None:
        """Nothing to free."""
