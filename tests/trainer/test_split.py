import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import split
from trainer.data.types import DataError, Interactions


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


def _rows(*parts: Interactions) -> list[tuple[int, ...]]:
    return sorted(
        row
        for part in parts
        if part.timestamps is not None
        for row in zip(
            part.users.tolist(), part.items.tolist(), part.timestamps.tolist(), strict=True
        )
    )


@given(interactions(), st.floats(0.01, 0.9), st.integers(0, 5))
def test_no_row_is_lost_or_on_both_sides(rows: Interactions, share: float, seed: int) -> None:
    for made in (
        split.random_split(rows, share, seed),
        split.temporal_split(rows, share),
        split.temporal_per_user_split(rows, share),
    ):
        assert _rows(made.train, made.test) == _rows(rows)


@given(interactions(), st.floats(0.01, 0.9))
def test_temporal_has_no_second_on_both_sides(rows: Interactions, share: float) -> None:
    made = split.temporal_split(rows, share)
    assert made.train.timestamps is not None
    assert made.test.timestamps is not None
    if len(made.train) and len(made.test):
        assert made.train.timestamps.max() < made.test.timestamps.min()


@given(interactions(), st.floats(0.01, 0.9))
def test_temporal_per_user_trains_on_each_users_past(rows: Interactions, share: float) -> None:
    made = split.temporal_per_user_split(rows, share)
    assert made.train.timestamps is not None
    assert made.test.timestamps is not None
    for user in np.unique(rows.users):
        past = made.train.timestamps[made.train.users == user]
        future = made.test.timestamps[made.test.users == user]
        assert len(past), "a user keeps some rows to train on"
        assert len(future) == int((rows.users == user).sum() * share)
        if len(future):
            assert past.max() <= future.min()


def test_random_is_seeded_and_has_the_tutorials_sizes() -> None:
    rows = Interactions(np.arange(100_000, dtype=np.int32), np.zeros(100_000, np.int32))
    one, same, other = (split.split(rows, "random", 0.2, seed) for seed in (1, 1, 2))
    assert (len(one.train), len(one.test)) == (80_000, 20_000)
    assert np.array_equal(one.test.users, same.test.users)
    assert not np.array_equal(one.test.users, other.test.users)


def test_a_temporal_split_needs_timestamps_and_two_sides() -> None:
    rows = Interactions(np.zeros(5, np.int32), np.arange(5, dtype=np.int32))
    with pytest.raises(DataError, match="timestamp"):
        split.split(rows, "temporal", 0.2, 0)
    with pytest.raises(DataError, match="0 to test"):
        split.split(rows, "random", 0.01, 0)
