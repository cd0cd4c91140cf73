"""No store: requests that need one fail, the others go on."""

from query_service.errors import SeenStoreUnavailable


class NoSeenStore:
    """Knows nothing, and says so rather than let seen items through."""

    async def seen(self, _user_id: str) -> frozenset[bytes]:
        """Always fails."""
        raise SeenStoreUnavailable("no seen store is configured")

    async def close(self) -> None:
        """Nothing to free."""
