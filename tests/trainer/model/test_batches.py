"""Training steps have the right queries, targets and candidates."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainingConfig
from trainer.data.histories import Histories
from trainer.model.training.batches import DTYPES, Batches, Step

ITEMS = 12
BY_USER = ("full_softmax", "sampled_softmax")
OBJECTIVES = (*BY_USER, "in_batch")

# Distinct items of every user, oldest first.
LISTS = st.lists(
    st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=9), min_size=1, max_size=7
)


def _histories(lists: list[list[int]]) -> Histories:
    offsets = np.cumsum([0, *map(len, lists)])
    return Histories(offsets, np.array([item for history in lists for item in history], np.int32))


def _batches(lists: list[list[int]], objective: str, **changed: Any) -> Batches:
    history_length, seed = changed.pop("history_length", 100), changed.pop("seed", 1)
    targets = "future" if changed.pop("future", False) else "random"
    config = TrainingConfig(batch_size=3, negatives=5, objective=objective, targets=targets)  # type: ignore[arg-type]
    return Batches(
        _histories(lists),
        ITEMS,
        replace(config, **changed),
        history_length=history_length,
        seed=seed,
    )


def _queries(step: Step) -> list[list[int]]:
    return [part.tolist() for part in np.split(step.histories.items, step.histories.offsets[1:-1])]


def _targets(step: Step, weight: float | None = None) -> list[tuple[int, int]]:
    """Return the query and the item of every target."""
    items = step.candidates[step.target_columns]
    chosen = np.ones(len(items), bool) if weight is None else step.target_weights == weight
    return list(zip(step.target_rows[chosen].tolist(), items[chosen].tolist(), strict=True))


@given(
    lists=LISTS,
    objective=st.sampled_from(OBJECTIVES),
    future=st.booleans(),
    kept_weight=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 5),
)
def test_target_of_full_weight_is_not_in_its_query(
    lists: list[list[int]], objective: str, future: bool, kept_weight: float, seed: int
) -> None:
    batches = _batches(lists, objective, future=future, kept_weight=kept_weight, seed=seed)
    for step in batches.epoch():
        queries = _queries(step)
        assert len(queries) == len(step.users)
        for row, item in _targets(step, weight=1.0):
            user = lists[step.users[row]]
            assert item in user
            assert item not in queries[row]
            if future:
                later = user[user.index(item) :]
                assert not set(queries[row]) & set(later), "the query is older than the target"
        for row, item in _targets(step, weight=0.3):
            assert item in queries[row]
        assert set(step.target_weights) <= {1.0, kept_weight}


@given(
    lists=LISTS,
    objective=st.sampled_from(BY_USER),
    future=st.booleans(),
    seed=st.integers(0, 5),
)
def test_every_item_of_a_user_is_in_the_history_or_a_target(
    lists: list[list[int]], objective: str, future: bool, seed: int
) -> None:
    batches = _batches(lists, objective, future=future, seed=seed)
    steps = list(batches.epoch())
    assert len(steps) == len(batches)
    counted: Counter[tuple[int, int]] = Counter()
    for step in steps:
        found = _targets(step)
        for row, query in enumerate(_queries(step)):
            # Every user has at least one target.
            assert row in {target for target, _ in found}
            order = lists[step.users[row]]
            assert query == [item for item in order if item in query], "oldest first"
            counted.update((int(step.users[row]), item) for item in query)
        counted.update((int(step.users[row]), item) for row, item in found)
    assert counted == Counter(
        (user, item) for user, one in enumerate(lists) if len(one) > 1 for item in one
    )


@given(lists=LISTS, future=st.booleans(), seed=st.integers(0, 5))
def test_every_row_is_a_target_once_in_batch(
    lists: list[list[int]], future: bool, seed: int
) -> None:
    batches = _batches(lists, "in_batch", future=future, seed=seed)
    steps = list(batches.epoch())
    assert len(steps) == len(batches)
    counted = Counter(
        (int(step.users[row]), item) for step in steps for row, item in _targets(step)
    )
    assert counted == Counter((user, item) for user, one in enumerate(lists) for item in one)
    for step in steps:
        for row, item in _targets(step):
            user = lists[step.users[row]]
            others = user[: user.index(item)] if future else [one for one in user if one != item]
            assert _queries(step)[row] == others
        assert len(step.candidates) == len(step.users) + 5
        assert step.target_columns.tolist() == step.target_rows.tolist()


def test_epochs_differ_and_seeds_repeat() -> None:
    lists = [list(range(user, user + 8)) for user in range(4)]
    for objective in OBJECTIVES:
        one, same = (_batches(lists, objective) for _ in "ab")
        first, second = ([_targets(step) for step in one.epoch()] for _ in "ab")
        assert first != second
        assert [_targets(step) for step in same.epoch()] == first


@given(lists=LISTS, length=st.integers(0, 4), future=st.booleans())
def test_queries_are_the_newest_items_within_the_history_length(
    lists: list[list[int]], length: int, future: bool
) -> None:
    for objective in OBJECTIVES:
        short, whole = (
            list(_batches(lists, objective, future=future, history_length=one).epoch())
            for one in (length, 100)
        )
        for step, same in zip(short, whole, strict=True):
            assert _queries(step) == [one[max(len(one) - length, 0) :] for one in _queries(same)]
            assert _targets(step) == _targets(same)


@given(lists=LISTS, negatives_from=st.sampled_from(["uniform", "popularity"]))
def test_candidates_are_distinct_and_have_training_rows(
    lists: list[list[int]], negatives_from: str
) -> None:
    trained = sorted({item for one in lists for item in one})
    for step in _batches(lists, "full_softmax").epoch():
        assert step.candidates.tolist() == trained
        assert not step.log_expected.any()
    for step in _batches(lists, "sampled_softmax", negatives_from=negatives_from).epoch():
        assert step.candidates.tolist() == sorted(set(step.candidates.tolist()))
        assert set(step.candidates.tolist()) <= set(trained)
        targets = {item for _, item in _targets(step)}
        assert targets <= set(step.candidates.tolist())
        assert len(step.candidates) <= len(targets) + 5
        assert len(step.log_expected) == len(step.candidates)


def test_candidates_without_negatives_are_the_targets() -> None:
    lists = [[0, 1, 2], [3, 4], [1, 5, 6]]
    for step in _batches(lists, "sampled_softmax", negatives=0).epoch():
        assert set(step.candidates.tolist()) == {item for _, item in _targets(step)}
    for step in _batches(lists, "in_batch", negatives=0).epoch():
        assert [item for _, item in _targets(step)] == step.candidates.tolist()


@pytest.mark.parametrize("negatives_from", ["uniform", "popularity"])
def test_log_expected_in_batch_is_the_probability_of_one_draw(negatives_from: str) -> None:
    lists = [[0, 1], [0, 2], [0]]
    batches = _batches(lists, "in_batch", negatives=200, negatives_from=negatives_from)
    share = np.array([3, 1, 1]) / 5
    drawn = np.full(3, 1 / 3) if negatives_from == "uniform" else share
    seen = np.zeros(3)
    for step in batches.epoch():
        rows, extra = np.split(step.candidates, [len(step.users)])
        expected = np.concatenate([share[rows], drawn[extra]])
        np.testing.assert_allclose(np.exp(step.log_expected), expected)
        seen += np.bincount(extra, minlength=3)
    np.testing.assert_allclose(seen / seen.sum(), drawn, atol=0.12)


@pytest.mark.parametrize("negatives_from", ["uniform", "popularity"])
def test_log_expected_matches_observed_frequencies(negatives_from: str) -> None:
    # Count how often each item is a candidate, for 400 users and items of unequal popularity.
    random = np.random.default_rng(0)
    weight = 1 / np.arange(1, 101)
    lists = [
        random.permutation(random.choice(100, 6, replace=False, p=weight / weight.sum())).tolist()
        for _ in range(400)
    ]
    config = TrainingConfig(batch_size=8, negatives=20, negatives_from=negatives_from)  # type: ignore[arg-type]
    batches = Batches(
        *(_histories(lists), 100, replace(config, objective="sampled_softmax")),
        history_length=100,
        seed=1,
    )
    times, expected, steps = np.zeros(100), np.zeros(100), 0
    for _ in range(30):
        for step in batches.epoch():
            times[step.candidates] += 1
            expected[step.candidates] += np.exp(step.log_expected)
            steps += 1
    observed = times / steps
    assert observed.max() - observed.min() > 0.5, "the frequencies must differ"
    # The formula assumes that targets are independent, but those of one user are not.
    np.testing.assert_allclose(observed, expected / np.maximum(times, 1), atol=0.05)


def test_arrays_have_the_declared_types() -> None:
    for objective in OBJECTIVES:
        for step in _batches([[0, 1, 2], [3, 4]], objective).epoch():
            arrays = step.arrays()
            assert {name: array.dtype.type for name, array in arrays.items()} == DTYPES
            assert all(array.ndim == 1 for array in arrays.values())
            ages = arrays["history_ages"]
            assert ages.tolist() == [
                age for query in _queries(step) for age in reversed(range(len(query)))
            ]


def test_users_with_one_item_make_no_step() -> None:
    for objective in BY_USER:
        assert len(_batches([[0], [], [3]], objective)) == 0
        users = [
            one for step in _batches([[0], [1, 2], [3]], objective).epoch() for one in step.users
        ]
        assert users == [1]
