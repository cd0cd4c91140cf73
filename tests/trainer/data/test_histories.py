import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import histories
from trainer.data.histories import Histories
from trainer.data.types import Interactions

USERS = 5

Row = tuple[int, int, int]


def _interactions(rows: list[Row], *, timed: bool = True) -> Interactions:
    users, items, times = np.array(rows, np.int64).reshape(-1, 3).T
    return Interactions(
        users.astype(np.int32), items.astype(np.int32), times.astype(np.int64) if timed else None
    )


def _naive(rows: list[Row], *, timed: bool = True) -> list[list[int]]:
    """Return the items of every user, oldest first, and a repeated item at its newest place."""
    lists: list[list[int]] = [[] for _ in range(USERS)]
    for user, item, _ in sorted(rows, key=lambda row: row[2] if timed else 0):
        if item in lists[user]:
            lists[user].remove(item)
        lists[user].append(item)
    return lists


def _lists(histories: Histories) -> list[list[int]]:
    return [part.tolist() for part in np.split(histories.items, histories.offsets[1:-1])]


ROWS = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, 6), st.integers(-3, 3)), max_size=40
)


@given(rows=ROWS, timed=st.booleans())
def test_history_is_in_time_order_with_repeated_items_at_their_newest_place(
    rows: list[Row], timed: bool
) -> None:
    found = histories.from_rows(_interactions(rows, timed=timed), USERS)
    expected = _naive(rows, timed=timed)
    assert _lists(found) == expected
    assert found.lengths.tolist() == [len(one) for one in expected]
    assert found.offsets.dtype == np.int64
    assert found.items.dtype == np.int32


@given(rows=ROWS, taken=st.lists(st.integers(0, USERS - 1), min_size=1, max_size=8))
def test_take_rows_and_ages_equal_those_of_lists(rows: list[Row], taken: list[int]) -> None:
    expected = [_naive(rows)[user] for user in taken]
    found = histories.from_rows(_interactions(rows), USERS).take(np.array(taken))
    assert _lists(found) == expected
    assert found.rows().tolist() == [row for row, one in enumerate(expected) for _ in one]
    ages = [age for one in expected for age in reversed(range(len(one)))]
    assert found.newer_counts().tolist() == ages


@given(rows=ROWS, length=st.integers(0, 8), data=st.data())
def test_keep_and_newest_equal_those_of_lists(
    rows: list[Row], length: int, data: st.DataObject
) -> None:
    found = histories.from_rows(_interactions(rows), USERS)
    assert _lists(found.newest(length)) == [
        one[len(one) - length :] if length < len(one) else one for one in _naive(rows)
    ]
    size = len(found.items)
    kept = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    flags = iter(kept)
    expected = [[item for item in one if next(flags)] for one in _naive(rows)]
    assert _lists(found.keep(np.array(kept, bool))) == expected


def test_empty_histories() -> None:
    found = histories.from_rows(_interactions([]), USERS)
    assert _lists(found) == [[]] * USERS
    assert len(found.take(np.array([], np.int64)).offsets) == 1
    with pytest.raises(IndexError):
        found.take(np.array([USERS]))
