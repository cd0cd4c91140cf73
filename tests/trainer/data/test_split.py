import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import split
from trainer.data.types import Interactions
from trainer.errors import DataError


@st.composite
def interactions(draw: st.DrawFn) -> Interactions:
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 20)),
            min_size=1,
            max_size=60,
        )
    )
    users, items, times = zip(*rows, strict=True)
    return Interactions(
        np.array(users, np.int32), np.array(items, np.int32), np.array(times, np.int64)
    )


def _rows(*parts_of_rows: Interactions) -> list[tuple[int, ...]]:
    return sorted(
        row
        for part in parts_of_rows
        if part.timestamps is not None
        for row in zip(
            part.users.tolist(), part.items.tolist(), part.timestamps.tolist(), strict=True
        )
    )


@given(interactions(), st.floats(0.01, 0.9), st.integers(0, 5))
def test_every_row_is_on_exactly_one_side(rows: Interactions, share: float, seed: int) -> None:
    for parts in (
        split.random_split(rows, share, seed),
        split.temporal_split(rows, share),
        split.temporal_per_user_split(rows, share),
    ):
        assert _rows(parts.train, parts.test) == _rows(rows)


@given(interactions(), st.floats(0.01, 0.9))
def test_temporal_split_has_no_second_on_both_sides(rows: Interactions, share: float) -> None:
    parts = split.temporal_split(rows, share)
    assert parts.train.timestamps is not None
    assert parts.test.timestamps is not None
    if len(parts.train) and len(parts.test):
        assert parts.train.timestamps.max() < parts.test.timestamps.min()


@given(interactions(), st.floats(0.01, 0.9))
def test_temporal_per_user_split_trains_on_the_past_of_each_user(
    rows: Interactions, share: float
) -> None:
    parts = split.temporal_per_user_split(rows, share)
    assert parts.train.timestamps is not None
    assert parts.test.timestamps is not None
    for user in np.unique(rows.users):
        past = parts.train.timestamps[parts.train.users == user]
        future = parts.test.timestamps[parts.test.users == user]
        assert len(past), "every user keeps a training row"
        assert len(future) == int((rows.users == user).sum() * share)
        if len(future):
            assert past.max() <= future.min()


def test_random_split_depends_on_the_seed_and_has_the_sizes_of_the_tutorial() -> None:
    rows = Interactions(np.arange(100_000, dtype=np.int32), np.zeros(100_000, np.int32))
    one, same, other = (split.split(rows, "random", 0.2, seed) for seed in (1, 1, 2))
    assert (len(one.train), len(one.test)) == (80_000, 20_000)
    assert np.array_equal(one.test.users, same.test.users)
    assert not np.array_equal(one.test.users, other.test.users)


def test_split_without_timestamps_or_with_an_empty_side_is_refused() -> None:
    rows = Interactions(np.zeros(5, np.int32), np.arange(5, dtype=np.int32))
    with pytest.raises(DataError, match=r"no timestamp column.*set split\.kind=random"):
        split.split(rows, "temporal", 0.2, 0)
    with pytest.raises(DataError, match="5 training rows and 0 test rows"):
        split.split(rows, "random", 0.01, 0)
