import time

import numpy as np
import pytest

from trainer import baselines, evaluation
from trainer.data.types import Interactions


def _rows(*pairs: tuple[int, int]) -> Interactions:
    users, items = zip(*pairs, strict=True)
    return Interactions(np.array(users, np.int32), np.array(items, np.int32))


def test_by_hand() -> None:
    # Both users rank item 9 first, then 8, ... 0 last.
    scores = np.tile(np.arange(10, dtype=np.float32), (2, 1))
    train = _rows((0, 9), (0, 8), (1, 0))
    test = _rows((0, 7), (0, 9), (1, 9), (1, 4))
    quality = evaluation.evaluate(lambda users: scores[users], train, test)
    # Ranks: 2, 0, 0, 5.
    assert quality.all_items == evaluation.TopK(0.5, 0.75, 1.0, 1.0, 1.0)
    # Without what they trained on: 0, never (it was removed), 0, 5.
    assert quality.unseen_items == evaluation.TopK(0.5, 0.5, 0.75, 0.75, 0.75)


def test_equal_scores_are_not_all_hits() -> None:
    flat = np.zeros((1, 200), np.float32)
    quality = evaluation.evaluate(lambda users: flat[users], _rows((0, 0)), _rows((0, 60)))
    assert (quality.all_items.top_50, quality.all_items.top_100) == (0.0, 1.0)


def test_nan_is_never_found() -> None:
    scores = np.zeros((1, 200), np.float32)
    scores[0, 3] = np.nan
    quality = evaluation.evaluate(lambda users: scores[users], _rows((0, 0)), _rows((0, 3)))
    assert quality.all_items.top_100 == 0.0


def test_users_of_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(40, 300)).astype(np.float32)
    pairs = random.choice(40 * 300, 900, replace=False)
    rows = Interactions((pairs // 300).astype(np.int32), (pairs % 300).astype(np.int32))
    train, test = rows.take(np.arange(600)), rows.take(np.arange(600, 900))
    whole = evaluation.evaluate(lambda users: scores[users], train, test)
    monkeypatch.setattr(evaluation, "_SCORES_AT_ONCE", 1000)
    assert evaluation.evaluate(lambda users: scores[users], train, test) == whole
    by_hand = [
        int(np.sum(scores[user] > scores[user, item])) < 100
        for user, item in zip(test.users, test.items, strict=True)
    ]
    assert whole.all_items.top_100 == pytest.approx(np.mean(by_hand))


def test_no_test_rows() -> None:
    nothing = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32))
    with pytest.raises(ValueError, match="no test rows"):
        evaluation.evaluate(lambda users: np.zeros((len(users), 3), np.float32), nothing, nothing)


def test_unknown_users_get_popularity() -> None:
    vectors = np.eye(3, dtype=np.float32)
    popularity = np.array([1, 5, 3], np.float32)
    score = evaluation.dot_product_scorer(
        vectors, vectors, np.array([True, False, True]), popularity
    )
    assert score(np.array([0, 1], np.int32)).tolist() == [[1, 0, 0], [1, 5, 3]]


def test_movielens_sized_data_takes_under_two_seconds() -> None:
    random = np.random.default_rng(0)
    pairs = random.choice(943 * 1682, 100_000, replace=False)
    rows = Interactions((pairs // 1682).astype(np.int32), (pairs % 1682).astype(np.int32))
    train, test = rows.take(np.arange(80_000)), rows.take(np.arange(80_000, 100_000))
    scorer = evaluation.popularity_scorer(baselines.popularity(train, 1682))
    started = time.process_time()
    evaluation.evaluate(scorer, train, test)
    # CPU seconds of this process: the neighbours on a shared machine do not count.
    assert time.process_time() - started < 2
