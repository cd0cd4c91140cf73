"""The depths at which the retriever fetches, and its answers."""

import asyncio
from collections.abc import Callable, Sequence, Set

import pytest

from query_service.core.filters import FilterFactory, ItemFilter, ListedItems
from query_service.core.query import Candidates, Query, QueryKind, RankedItems, Source
from query_service.core.retriever import Retriever
from query_service.errors import ModelServerUnavailable, RetrievalError, UnknownQuery

_CATALOGUE = [b"i%d" % n for n in range(20_000)]


class Model:
    """Ranks the catalogue in its order, and pads the ranking with filler."""

    def __init__(
        self,
        catalogue: Sequence[bytes] = _CATALOGUE,
        *,
        known: bool = True,
        error: RetrievalError | None = None,
    ) -> None:
        self.depths: list[int] = []
        self._catalogue, self._known, self._error = catalogue, known, error

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:  # noqa: ARG002
        self.depths.append(depth)
        if self._error:
            raise self._error
        ids = [*self._catalogue[:depth]]
        scores = [-float(n) for n in range(len(ids))]
        padding = depth - len(ids)
        return RankedItems(
            ids + [b""] * padding, scores + [-float("inf")] * padding, self._known, 7
        )


class Odd:
    """A filter that cannot list what it rejects: every item with an odd number."""

    async def list_rejected(self, limit: int | None) -> Set[bytes] | None:  # noqa: ARG002
        return None

    async def find_rejected(self, candidates: Sequence[bytes]) -> Set[bytes]:
        return {candidate for candidate in candidates if candidate and int(candidate[1:]) % 2}


class LongList:
    """A filter that lists what it rejects only when there is no limit."""

    def __init__(self, item_ids: Set[bytes]) -> None:
        self._item_ids = item_ids

    async def list_rejected(self, limit: int | None) -> Set[bytes] | None:
        return self._item_ids if limit is None else None

    async def find_rejected(self, candidates: Sequence[bytes]) -> Set[bytes]:
        return self._item_ids & set(candidates)


def _always(item_filter: ItemFilter) -> FilterFactory:
    return lambda _query, _deadline: item_filter


def _retrieve(
    model: Model,
    *filters: ItemFilter,
    k: int = 10,
    kind: QueryKind = QueryKind.USER,
    popular_for_unknown_users: bool = True,
    popular_items: Callable[[], RankedItems | None] = lambda: None,
) -> Candidates:
    retriever = Retriever(
        model,
        [_always(item_filter) for item_filter in filters],
        popular_for_unknown_users=popular_for_unknown_users,
        popular_items=popular_items,
    )
    return asyncio.run(retriever.retrieve(Query(kind, "q", k), 1e9))


_FIRST = frozenset(_CATALOGUE[:9_000])


@pytest.mark.parametrize(
    ("filters", "k", "first", "depths", "excluded"),
    [
        # Without filters, k is enough.
        ((), 10, 0, [10], 0),
        # Fewer rejected items than the margin: k and all of them.
        ((ListedItems({b"i0", b"i1"}),), 10, 2, [12], 2),
        # Scattered rejected items: twice k and the margin.
        ((ListedItems(frozenset(_CATALOGUE[::50])),), 10, 1, [120], 400),
        # The best items are rejected: the second fetch is at least 8,192 deep ...
        ((ListedItems(frozenset(_CATALOGUE[:8_000])),), 10, 8_000, [120, 8_010], 8_000),
        # ... and the third one four times as deep, if so many can be needed.
        ((ListedItems(_FIRST),), 10, 9_000, [120, 8_192, 9_010], 9_000),
        # A long list is only read if too few candidates pass the filters.
        ((LongList(frozenset(_CATALOGUE[::50])),), 10, 1, [120], 0),
        ((LongList(_FIRST),), 10, 9_000, [120, 8_192, 9_010], 9_000),
        # A filter that can never list what it rejects.
        ((Odd(),), 100, 0, [300], 0),
        ((Odd(), ListedItems(_FIRST)), 10, 9_000, [120, 8_192, 32_768], 9_000),
    ],
)
def test_depths_of_fetches(
    filters: tuple[ItemFilter, ...], k: int, first: int, depths: list[int], excluded: int
) -> None:
    model = Model()
    candidates = _retrieve(model, *filters, k=k)
    assert model.depths == depths
    assert candidates.item_ids[0] == _CATALOGUE[first]
    assert len(candidates.item_ids) == k
    assert (candidates.fetches, candidates.excluded) == (len(depths), excluded)
    assert (candidates.source, candidates.version) == (Source.MODEL, 7)


def test_answer_is_short_when_the_catalogue_ends() -> None:
    model = Model(_CATALOGUE[:15])
    candidates = _retrieve(model, ListedItems(set(_CATALOGUE[:12])))
    assert candidates.item_ids == _CATALOGUE[12:15]
    assert model.depths == [22], "a deeper fetch would find no more"


def test_duplicates_and_filler_are_dropped() -> None:
    candidates = _retrieve(Model([b"i0", b"i1", b"i0", b"i2"]), k=4)
    assert candidates.item_ids == [b"i0", b"i1", b"i2"]
    assert candidates.scores == [0.0, -1.0, -3.0]


@pytest.mark.parametrize(
    ("kind", "popular_for_unknown_users", "message"),
    [
        (QueryKind.ITEM, True, "the model does not know item 'q'"),
        (QueryKind.USER, False, "the model does not know user 'q'"),
    ],
)
def test_unknown_query_is_refused(
    kind: QueryKind, popular_for_unknown_users: bool, message: str
) -> None:
    with pytest.raises(UnknownQuery, match=message):
        _retrieve(
            Model(known=False), kind=kind, popular_for_unknown_users=popular_for_unknown_users
        )


def test_unknown_user_gets_popular_items() -> None:
    candidates = _retrieve(Model(known=False), ListedItems({b"i1"}), k=2)
    assert candidates.item_ids == [b"i0", b"i2"]
    assert (candidates.source, candidates.fallback) == (Source.POPULARITY, False)


@pytest.mark.parametrize("kind", [QueryKind.USER, QueryKind.ITEM])
@pytest.mark.parametrize("listing", [ListedItems, LongList])
def test_fallback_applies_the_filters(
    kind: QueryKind, listing: Callable[[Set[bytes]], ItemFilter]
) -> None:
    popular = RankedItems([b"p%d" % n for n in range(500)], [0.0] * 500, False, 6)
    candidates = _retrieve(
        Model(error=ModelServerUnavailable("gone")),
        listing({b"p%d" % n for n in range(300)}),
        kind=kind,
        popular_items=lambda: popular,
    )
    assert candidates.item_ids == [b"p%d" % n for n in range(300, 310)]
    assert (candidates.source, candidates.version) == (Source.POPULARITY, 6)
    assert (candidates.fallback, candidates.fetches, candidates.excluded) == (True, 1, 300)


def test_error_of_the_model_is_raised_without_popular_items() -> None:
    with pytest.raises(ModelServerUnavailable, match="gone"):
        _retrieve(Model(error=ModelServerUnavailable("gone")))
