"""Histories in compressed rows equal lists of items, one per user."""

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
    """Of every user the items, oldest first; of equal items the last."""
    lists: list[list[int]] = [[] for _ in range(USERS)]
    for user, item, _ in sorted(rows, key=lambda row: row[2] if timed else 0):
        if item in lists[user]:
            lists[user].remove(item)
        lists[user].append(item)
    return lists


def _lists(made: Histories) -> list[list[int]]:
    return [part.tolist() for part in np.split(made.items, made.offsets[1:-1])]


ROWS = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, 6), st.integers(-3, 3)), max_size=40
)


@given(rows=ROWS, timed=st.booleans())
def test_the_last_of_equal_items_in_time_order(rows: list[Row], timed: bool) -> None:
    made = histories.of(_interactions(rows, timed=timed), USERS)
    expected = _naive(rows, timed=timed)
    assert _lists(made) == expected
    assert made.lengths.tolist() == [len(one) for one in expected]
    assert (made.offsets.dtype, made.items.dtype) == (np.int64, np.int32)


@given(rows=ROWS, taken=st.lists(st.integers(0, USERS - 1), min_size=1, max_size=8))
def test_rows_ages_and_take(rows: list[Row], taken: list[int]) -> None:
    expected = [_naive(rows)[user] for user in taken]
    made = histories.of(_interactions(rows), USERS).take(np.array(taken))
    assert _lists(made) == expected
    assert made.rows().tolist() == [row for row, one in enumerate(expected) for _ in one]
    assert made.ages().tolist() == [age for one in expected for age in reversed(range(len(one)))]


@given(rows=ROWS, length=st.integers(0, 8), data=st.data())
def test_keep_and_newest(rows: list[Row], length: int, data: st.DataObject) -> None:
    made = histories.of(_interactions(rows), USERS)
    assert _lists(made.newest(length)) == [
        one[len(one) - length :] if length < len(one) else one for one in _naive(rows)
    ]
    size = len(made.items)
    kept = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    flags = iter(kept)
    expected = [[item for item in one if next(flags)] for one in _naive(rows)]
    assert _lists(made.keep(np.array(kept, bool))) == expected


def test_nobody_is_taken_and_nobody_did_anything() -> None:
    made = histories.of(_interactions([]), USERS)
    assert _lists(made) == [[]] * USERS
    assert len(made.take(np.array([], np.int64)).offsets) == 1
    with pytest.raises(IndexError):
        made.take(np.array([USERS]))
