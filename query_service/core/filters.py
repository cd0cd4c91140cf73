"""Filters reject the items that a query must not return, each for one reason.

To add a filter, write a class with the two methods of :class:`ItemFilter` and a
:data:`FilterFactory` that creates the filter for the queries that need it. Then pass the factory to
the retriever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Protocol, TypeAlias, TypeVar

from query_service.core.query import Query, QueryKind
from query_service.errors import OutOfTime

#: If a filter rejects more items than this, the retriever asks which of the fetched candidates it
#: rejects, instead of asking for a list of all rejected items.
MAX_LISTED_ITEMS = 1_000
_NO_ITEMS: frozenset[bytes] = frozenset()

T = TypeVar("T")


class ItemFilter(Protocol):
    """Rejects items that one query must not return."""

    async def list_rejected(self, limit: int | None) -> Set[bytes] | None:
        """Return the ids of all items that this filter rejects.

        Return None if the items cannot be listed, or if there are more than about ``limit`` and
        listing them would take longer than looking up candidates.
        """

    async def find_rejected(self, candidates: Sequence[bytes]) -> Set[bytes]:
        """Return the candidates that this filter rejects. The set may contain other ids, too."""


#: Creates the filter for a query, or returns None if the query does not need it. The second
#: argument is the deadline of the request, a ``loop.time()`` value in seconds.
FilterFactory: TypeAlias = Callable[[Query, float], ItemFilter | None]


class SeenStore(Protocol):
    """Knows which items users have seen."""

    async def seen(self, user_id: str, limit: int | None = None) -> Set[bytes] | None:
        """Return the ids of the items that the user has seen. An unknown user has seen nothing.

        Return None, without reading all of the ids, if there are more than about ``limit``.

        Raises:
            SeenStoreUnavailable: The store cannot be read.
        """

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> Set[bytes]:
        """Return the subset of ``item_ids`` that the user has seen.

        Raises:
            SeenStoreUnavailable: The store cannot be read.
        """

    async def close(self) -> None:
        """Release files and connections."""


class ListedItems:
    """Rejects a set of items that is in memory."""

    def __init__(self, item_ids: Set[bytes]) -> None:
        self.item_ids = item_ids

    async def list_rejected(self, limit: int | None) -> Set[bytes]:  # noqa: ARG002
        """Return all of the items, whatever the limit, because they are in memory."""
        return self.item_ids

    async def find_rejected(self, candidates: Sequence[bytes]) -> Set[bytes]:  # noqa: ARG002
        """Return all of the items."""
        return self.item_ids


class SeenItems:
    """Rejects the items that a user has seen.

    Both methods raise OutOfTime when ``loop.time()`` reaches ``deadline``, and SeenStoreUnavailable
    if the store cannot be read.
    """

    def __init__(self, store: SeenStore, user_id: str, deadline: float) -> None:
        self._store = store
        self._user_id = user_id
        self._deadline = deadline

    async def list_rejected(self, limit: int | None) -> Set[bytes] | None:
        """Return the user's seen items, or None if they exceed about ``limit``."""
        return await self._before_deadline(self._store.seen(self._user_id, limit))

    async def find_rejected(self, candidates: Sequence[bytes]) -> Set[bytes]:
        """Return the candidates that the user has seen."""
        return await self._before_deadline(self._store.seen_among(self._user_id, candidates))

    async def _before_deadline(self, read: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await read
        except TimeoutError:
            raise OutOfTime("the deadline passed while reading seen items") from None


def requested_exclusions(query: Query, _deadline: float) -> ItemFilter | None:
    """Return a filter that rejects the items that the request excludes by id."""
    return ListedItems(query.excluded) if query.excluded else None


def query_item(query: Query, _deadline: float) -> ItemFilter | None:
    """Return a filter that rejects the query item itself in a query for similar items."""
    return ListedItems({query.id.encode()}) if query.kind is QueryKind.ITEM else None


def recent_items(query: Query, _deadline: float) -> ItemFilter | None:
    """Return a filter that rejects recent items, which the seen store may not have yet."""
    if query.exclude_seen_by is None or not query.recent:
        return None
    return ListedItems({item_id.encode() for item_id in query.recent})


def seen_items(store: SeenStore) -> FilterFactory:
    """Return a factory of filters that reject the items that a user has seen."""

    def make(query: Query, deadline: float) -> ItemFilter | None:
        user_id = query.exclude_seen_by
        return None if user_id is None else SeenItems(store, user_id, deadline)

    return make


def standard_filters(store: SeenStore) -> tuple[FilterFactory, ...]:
    """Return the factories of all filters that the service applies."""
    return (requested_exclusions, query_item, recent_items, seen_items(store))


class Eligibility:
    """Combines the filters of one query.

    Attributes:
        listed_ids: The ids of all items that the filters have listed as rejected.
        unlisted_filters: The filters that have not listed what they reject.
    """

    __slots__ = ("listed_ids", "unlisted_filters")

    def __init__(self, query: Query, deadline: float, factories: Sequence[FilterFactory]) -> None:
        self.listed_ids: Set[bytes] = _NO_ITEMS
        self.unlisted_filters: list[ItemFilter] = []
        for factory in factories:
            item_filter = factory(query, deadline)
            if isinstance(item_filter, ListedItems):
                # Most queries have only filters of this kind, and need no await.
                self._add(item_filter.item_ids)
            elif item_filter is not None:
                self.unlisted_filters.append(item_filter)

    async def list_rejected(self, limit: int | None = None) -> None:
        """Ask each unlisted filter to list what it rejects, unless that is more than ``limit``."""
        unlisted: list[ItemFilter] = []
        for item_filter in self.unlisted_filters:
            item_ids = await item_filter.list_rejected(limit)
            if item_ids is None:
                unlisted.append(item_filter)
            else:
                self._add(item_ids)
        self.unlisted_filters = unlisted

    async def find_rejected(self, candidates: Sequence[bytes]) -> Set[bytes]:
        """Return all listed ids, and the candidates that the unlisted filters reject."""
        rejected = self.listed_ids
        for item_filter in self.unlisted_filters:
            rejected = rejected | await item_filter.find_rejected(candidates)
        return rejected

    def _add(self, item_ids: Set[bytes]) -> None:
        self.listed_ids = self.listed_ids | item_ids if self.listed_ids else item_ids
