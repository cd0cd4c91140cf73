"""Query embeddings of items are learnt from consecutive interactions."""

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trainer.config import ItemToItemConfig
from trainer.data.histories import Histories
from trainer.data.types import Interactions, Split
from trainer.model import item_to_item

CONSOLE = Console(quiet=True)
ITEMS = 30
#: The last two are in no history.
COLD = [28, 29]


def _histories(lists: list[list[int]]) -> Histories:
    offsets = np.cumsum([0, *map(len, lists)])
    return Histories(offsets, np.array([item for history in lists for item in history], np.int32))


def _nearest(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    scores = queries @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest: np.ndarray = scores.argmax(axis=1)
    return nearest


def _vectors() -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 16)).astype(np.float32)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def test_training_finds_a_planted_sequence() -> None:
    # All users go from item i to item i + 1; item 27 is always the last.
    starts = np.random.default_rng(1).integers(0, 25, 300)
    lists = [list(range(start, min(start + 5, 28))) for start in starts]
    vectors = _vectors()
    trained = item_to_item.train(
        *(_histories(lists), vectors, ItemToItemConfig(batch_size=64)),
        seed=1,
        console=CONSOLE,
    )
    following = np.arange(1, 28)
    assert np.mean(_nearest(trained, vectors)[:27] == following) > 0.9
    assert np.mean(_nearest(vectors, vectors)[:27] == following) < 0.2, (
        "candidate embeddings alone do not find it"
    )
    np.testing.assert_allclose(np.linalg.norm(trained, axis=1), 1, rtol=1e-5)
    # Items without a next item keep their embedding.
    np.testing.assert_allclose(trained[[27, *COLD]], vectors[[27, *COLD]], atol=1e-6)


def test_items_keep_their_embedding_without_pairs() -> None:
    vectors = 3 * _vectors()
    trained = item_to_item.train(
        *(_histories([[1], [], [2]]), vectors, ItemToItemConfig()), seed=1, console=CONSOLE
    )
    np.testing.assert_allclose(trained, vectors / 3, atol=1e-6)


@given(st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=5))
def test_pairs_are_consecutive_items_of_one_user(lists: list[list[int]]) -> None:
    item, following = item_to_item.pairs(_histories(lists))
    expected = [pair for one in lists for pair in itertools.pairwise(one)]
    assert list(zip(item.tolist(), following.tolist(), strict=True)) == expected


def _rows(*rows: tuple[int, int, int]) -> Interactions:
    users, items, times = np.array(rows, np.int64).reshape(-1, 3).T
    return Interactions(users.astype(np.int32), items.astype(np.int32), times)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1, -1000), (10**9, 1_700_000_000 * 10**9)])
def test_evaluation_equals_hand_computed_values(scale: int, shift: int) -> None:
    # Item i scores item j by -|j - i - 1|: the next item is the best, then its neighbours.
    place = np.arange(200.0)
    queries = np.stack([place + 1, np.ones(200)], axis=1).astype(np.float32)
    vectors = np.stack([2 * place, -(place**2)], axis=1).astype(np.float32)

    def at(*rows: tuple[int, int, int]) -> Interactions:
        return _rows(*((5 * user, item, time * scale + shift) for user, item, time in rows))

    train = at((0, 10, 5), (0, 50, 7), (1, 100, 6), (3, 0, 1))
    test = at(
        (0, 11, 6),  # after 10: the nearest.
        (0, 60, 8),  # after 50: 16 others are nearer.
        (0, 12, 5),  # nothing older.
        (1, 100, 9),  # the item itself.
        (2, 3, 9),  # no training rows.
        (3, 199, 2),  # after 0: the farthest.
        (1, 7, 3),  # nothing older.
    )
    found = item_to_item.evaluate(queries, vectors, Split("by hand", train, test))
    assert found == item_to_item.NextItemQuality(top_10=1 / 3, top_100=2 / 3)


def test_evaluation_does_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    users = np.repeat(np.arange(12, dtype=np.int32), 3)
    items = random.integers(0, ITEMS, (2, len(users))).astype(np.int32)
    train = Interactions(users, items[0], np.arange(36))
    test = Interactions(users, items[1], np.arange(36) + 100)
    queries = random.normal(size=(ITEMS, 16)).astype(np.float32)
    evaluate = partial(item_to_item.evaluate, queries, _vectors(), Split("", train, test))
    at_once = evaluate()
    assert at_once is not None
    assert 0 < at_once.top_10 < 1
    # Batches of five rows, and of one row for a catalogue beyond the limit.
    for scores in (5 * ITEMS, 1):
        monkeypatch.setattr(item_to_item, "_MAX_SCORES", scores)
        assert evaluate() == at_once


def test_every_epoch_contains_every_pair_once() -> None:
    numbers = np.arange(10, dtype=np.int32)
    data = item_to_item._shuffled({"item": numbers, "next": numbers + 1}, 4, 3, seed=0)
    epochs = [list(data.as_numpy_iterator()) for _ in range(2)]
    for epoch in epochs:
        assert [len(batch["item"]) for batch in epoch] == [4, 4, 2]
        assert all((batch["next"] == batch["item"] + 1).all() for batch in epoch)
        assert sorted(np.concatenate([batch["item"] for batch in epoch])) == list(numbers)
    assert any((a["item"] != b["item"]).any() for a, b in zip(*epochs, strict=True))


def test_evaluation_without_pairs_is_none() -> None:
    vectors = np.eye(3, dtype=np.float32)
    train, test = _rows((0, 1, 5)), _rows((0, 2, 4))
    assert item_to_item.evaluate(vectors, vectors, Split("", train, test)) is None
    untimed = Interactions(train.users, train.items)
    assert item_to_item.evaluate(vectors, vectors, Split("", untimed, untimed)) is None
