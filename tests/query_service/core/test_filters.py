"""Filters reject the right items, alone and combined with others."""

import asyncio
from collections.abc import Sequence, Set

import pytest

from query_service.core.filters import Eligibility, SeenItems, standard_filters
from query_service.core.query import Query, QueryKind
from query_service.errors import OutOfTime

_SEEN: dict[str, Set[bytes]] = {"light": {b"s1", b"s2"}, "heavy": {b"s%d" % n for n in range(50)}}
_CANDIDATES = [b"s1", b"s7", b"x1", b"q", b"r1", b"other"]


class Store:
    """A seen store in memory that records how it is read."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.reads: list[str] = []
        self._delay_s = delay_s

    async def seen(self, user_id: str, limit: int | None = None) -> Set[bytes] | None:
        self.reads.append("all" if limit is None else f"up to {limit}")
        await asyncio.sleep(self._delay_s)
        items = _SEEN[user_id]
        return None if limit is not None and len(items) > limit else items

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> Set[bytes]:
        self.reads.append("among")
        await asyncio.sleep(self._delay_s)
        return _SEEN[user_id] & set(item_ids)

    async def close(self) -> None:
        pass


def _user(**fields: object) -> Query:
    return Query(QueryKind.USER, "u", 3, **fields)  # type: ignore[arg-type]


def _item(**fields: object) -> Query:
    return Query(QueryKind.ITEM, "q", 3, **fields)  # type: ignore[arg-type]


def _recent(**fields: object) -> Query:
    return Query(QueryKind.USER_AND_RECENT, "u", 3, recent=("r1",), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "rejected", "reads"),
    [
        (_user(), set(), []),
        (_user(excluded={b"x1", b"x2"}), {b"x1"}, []),
        (_item(), {b"q"}, []),
        (_item(excluded={b"x1"}), {b"q", b"x1"}, []),
        (_item(exclude_seen_by="light"), {b"q", b"s1"}, ["up to 10"]),
        (_recent(), set(), []),
        (_recent(exclude_seen_by="light"), {b"r1", b"s1"}, ["up to 10"]),
        (_user(exclude_seen_by="light", excluded={b"s1", b"x1"}), {b"s1", b"x1"}, ["up to 10"]),
        (_user(exclude_seen_by="heavy"), {b"s1", b"s7"}, ["up to 10", "among"]),
        (_recent(exclude_seen_by="heavy"), {b"r1", b"s1", b"s7"}, ["up to 10", "among"]),
    ],
    ids=str,
)
def test_rejected_candidates(query: Query, rejected: Set[bytes], reads: list[str]) -> None:
    async def test() -> None:
        store = Store()
        deadline = asyncio.get_running_loop().time() + 5
        eligibility = Eligibility(query, deadline, standard_filters(store))
        await eligibility.list_rejected(10)
        found = await eligibility.find_rejected(_CANDIDATES)
        assert found & set(_CANDIDATES) == rejected
        assert store.reads == reads

    asyncio.run(test())


def test_items_that_two_filters_reject_are_listed_once() -> None:
    async def test() -> None:
        query = _user(exclude_seen_by="light", excluded={b"s1", b"x1"})
        deadline = asyncio.get_running_loop().time() + 5
        eligibility = Eligibility(query, deadline, standard_filters(Store()))
        await eligibility.list_rejected(10)
        assert eligibility.listed_ids == {b"s1", b"s2", b"x1"}
        assert not eligibility.unlisted_filters

    asyncio.run(test())


def test_long_list_is_read_only_without_a_limit() -> None:
    async def test() -> None:
        store = Store()
        deadline = asyncio.get_running_loop().time() + 5
        query = _user(exclude_seen_by="heavy", excluded={b"s1", b"x1"})
        eligibility = Eligibility(query, deadline, standard_filters(store))
        await eligibility.list_rejected(10)
        assert (eligibility.listed_ids, len(eligibility.unlisted_filters)) == ({b"s1", b"x1"}, 1)
        await eligibility.list_rejected()
        assert eligibility.listed_ids == _SEEN["heavy"] | {b"x1"}
        assert not eligibility.unlisted_filters
        assert store.reads == ["up to 10", "all"]

    asyncio.run(test())


def test_reading_seen_items_ends_at_the_deadline() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        seen = SeenItems(Store(delay_s=5), "light", loop.time() + 0.05)
        for read in (seen.list_rejected(None), seen.find_rejected(_CANDIDATES)):
            with pytest.raises(OutOfTime, match="reading seen items"):
                await read
        assert loop.time() < seen._deadline + 1

    asyncio.run(test())
