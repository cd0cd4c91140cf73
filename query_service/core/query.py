"""The value objects of the retrieval core.

Item ids are UTF-8 bytes, as on the wire, so that the service never has to decode them.
"""

import enum
from collections.abc import Sequence, Set
from typing import NamedTuple


class QueryKind(enum.Enum):
    """The kind of input that candidates are retrieved for."""

    USER = "user"
    USER_AND_RECENT = "user and recent items"
    ITEM = "item"


class Source(enum.Enum):
    """The ranking that candidates come from."""

    MODEL = "model"
    POPULARITY = "popularity"


class Query(NamedTuple):
    """A request that has passed validation.

    Attributes:
        kind: The kind of input that candidates are retrieved for.
        id: The user id, or the item id if ``kind`` is ITEM.
        max_candidates: The number of candidates to return, at least 1.
        recent: The user's latest items, newest last, without duplicates; USER_AND_RECENT only.
        excluded: Ids of items that must not be returned.
        exclude_seen_by: The user whose seen items must not be returned, or None.
    """

    kind: QueryKind
    id: str
    max_candidates: int
    recent: tuple[str, ...] = ()
    excluded: Set[bytes] = frozenset()
    exclude_seen_by: str | None = None


class RankedItems(NamedTuple):
    """The model's ranking for one query.

    Attributes:
        item_ids: Item ids, best first; filler ids may follow at the end.
        scores: The scores of ``item_ids``, in descending order.
        known: False if nothing in the query is in the model's vocabulary; the items are then the
            most popular ones.
        version: The version of the model.
    """

    item_ids: Sequence[bytes]
    scores: Sequence[float]
    known: bool
    version: int


class Candidates(NamedTuple):
    """The answer to a query.

    Attributes:
        item_ids: Item ids, best first, without duplicates.
        scores: The scores of ``item_ids``, in descending order.
        source: The ranking that the items come from.
        version: The version of the model.
        excluded: The number of item ids that the filters of the query listed as rejected.
        fetches: The number of fetches from the model, more than one if too few items of the
            first fetch passed the filters.
        fallback: True if the popularity ranking replaces the answer of an unavailable model.
    """

    item_ids: Sequence[bytes]
    scores: Sequence[float]
    source: Source
    version: int
    excluded: int = 0
    fetches: int = 1
    fallback: bool = False
