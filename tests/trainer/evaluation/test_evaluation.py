import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import evaluation
from trainer.data.types import Interactions
from trainer.evaluation import baselines, comparison, ranking


def _rows(*pairs: tuple[int, int]) -> Interactions:
    users, items = zip(*pairs, strict=True)
    return Interactions(np.array(users, np.int32), np.array(items, np.int32))


def test_top_k_equals_hand_computed_values() -> None:
    # Both users have the ranking 9, 8, ..., 0.
    scores = np.tile(np.arange(10, dtype=np.float32), (2, 1))
    train = _rows((0, 9), (0, 8), (1, 0))
    test = _rows((0, 7), (0, 9), (1, 9), (1, 4))
    quality = evaluation.evaluate(lambda users: scores[users], train, test)
    # The ranks are 2, 0, 0 and 5.
    assert quality.all_items == evaluation.TopK(0.5, 0.75, 1.0, 1.0, 1.0)
    # Without training items they are 0, none (the item is removed), 0 and 5.
    assert quality.unseen_items == evaluation.TopK(0.5, 0.5, 0.75, 0.75, 0.75)


def test_per_user_metrics_equal_hand_computed_values() -> None:
    # All users have the ranking 199, 198, ..., 0; item 199 is a training item of user 0.
    scores = np.tile(np.arange(200, dtype=np.float32), (2, 1))
    train = _rows((0, 199), (1, 0))
    # Ranks of user 0: 0, 2, 49 (the first row is repeated) and none; rank of user 1: 10.
    test = _rows((0, 198), (1, 189), (0, 196), (0, 198), (0, 149), (0, 199))
    per_user = evaluation.evaluate(lambda users: scores[users], train, test).per_user
    assert per_user.recall_at_10 == pytest.approx((2 / 4 + 0 / 1) / 2)
    assert per_user.recall_at_100 == pytest.approx((3 / 4 + 1 / 1) / 2)
    ideal = 1 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(5)
    assert per_user.ndcg_at_10 == pytest.approx((1 + 1 / 2) / ideal / 2)
    user_0 = (1 + 1 / 2 + 1 / math.log2(51)) / ideal
    assert per_user.ndcg_at_100 == pytest.approx((user_0 + 1 / math.log2(12)) / 2)
    assert evaluation.evaluate(lambda users: scores[users], train, test).as_dict()[
        "per_user"
    ].keys() == {"recall_at_10", "recall_at_100", "ndcg_at_10", "ndcg_at_100"}


def test_ndcg_of_a_perfect_ranking_is_1() -> None:
    scores = np.arange(300, dtype=np.float32)[None, :]
    everything = _rows(*((0, item) for item in range(200, 300)))
    per_user = evaluation.evaluate(lambda users: scores[users], _rows((0, 0)), everything).per_user
    assert (per_user.ndcg_at_10, per_user.ndcg_at_100) == pytest.approx((1.0, 1.0))
    assert (per_user.recall_at_10, per_user.recall_at_100) == (0.1, 1.0)


def test_comparison_equals_hand_computed_values() -> None:
    # 20 items, the popular ones first: item 0 has 20 training rows, item 19 has 1.
    train = _rows(*((100 + user, item) for item in range(20) for user in range(20 - item)))
    test = _rows((100, 0), (119, 18), (119, 19))
    scores = np.zeros((120, 20), np.float32)
    scores[119, 19] = 1
    models: dict[str, Any] = {
        "flat": lambda: lambda users: np.zeros((len(users), 20), np.float32),
        "last": lambda: lambda users: np.where(scores[users] > 0, 1, -np.inf).astype(np.float32),
    }
    found = evaluation.compare(models, train, test, 20)
    # User 100 has every item as a training item, user 119 only item 0.
    assert found.slices["item_popularity"] == [
        {"label": "19 to 20", "rows": 1, "top_100": {"flat": 0.0, "last": 0.0}},
        {"label": "1 to 2", "rows": 2, "top_100": {"flat": 1.0, "last": 0.5}},
    ]
    assert found.slices["user_history"] == [
        {"label": "1", "rows": 2, "top_100": {"flat": 1.0, "last": 0.5}},
        {"label": "20", "rows": 1, "top_100": {"flat": 0.0, "last": 0.0}},
    ]
    assert found.coverage == {
        "flat": {"top_10": 10 / 20, "top_100": 19 / 20},
        "last": {"top_10": 1 / 20, "top_100": 1 / 20},
    }
    assert found.quality["last"] == evaluation.evaluate(models["last"](), train, test)


def test_popularity_slices_are_equal_parts_of_the_catalogue() -> None:
    train = _rows(*((user, user) for user in range(25)))
    test = _rows(*((0, item) for item in range(25)))
    parts = comparison.by_item_popularity(train, test, 25)
    assert np.bincount(parts.of_row).tolist() == [3, 2, 3, 2, 3, 2, 3, 2, 3, 2]
    # Equally popular items are in the order of the catalogue.
    assert parts.of_row.tolist() == sorted(parts.of_row)
    train = _rows(*((user, item) for user in range(10) for item in range(user + 1)))
    parts = comparison.by_user_history(train, _rows(*((user, 0) for user in range(10))))
    assert parts.labels == ["1 to 2", "3 to 4", "5 to 6", "7 to 8", "9 to 10"]
    assert parts.of_row.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


_SCORE = st.sampled_from([-np.inf, np.nan, -1.5, -0.0, 0.0, 1e-42, 2.0, 7.0, np.inf])


@settings(max_examples=150)
@given(data=st.data(), items=st.sampled_from([1, 2, 7, 15, 130]))
def test_every_metric_equals_naive_loops(data: st.DataObject, items: int) -> None:
    pairs = st.tuples(st.integers(0, 4), st.integers(0, items - 1))
    train = _rows(*data.draw(st.lists(pairs, min_size=1, max_size=30)))
    test = _rows(*data.draw(st.lists(pairs, min_size=1, max_size=30)))
    row = st.lists(_SCORE, min_size=items, max_size=items)
    scores = np.array(data.draw(st.lists(row, min_size=5, max_size=5)), np.float32)
    ours = evaluation.compare({"m": lambda: lambda users: scores[users]}, train, test, items)
    expected = _naive(scores, train, test)
    assert ours.quality["m"].as_dict() == {
        key: pytest.approx(expected[key]) for key in ("all_items", "unseen_items", "per_user")
    }
    assert ours.coverage["m"] == pytest.approx(expected["coverage"])
    for rows in ours.slices.values():
        assert sum(one["rows"] for one in rows) == len(test)
        mean = sum(one["rows"] * one["top_100"]["m"] for one in rows) / len(test)
        assert mean == pytest.approx(expected["unseen_items"]["top_100"])


def _naive(scores: np.ndarray, train: Interactions, test: Interactions) -> dict[str, Any]:
    """Compute all metrics with sorted lists, one user and one row at a time."""
    seen = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    asked = list(zip(test.users.tolist(), test.items.tolist(), strict=True))
    ranked, unseen = {}, {}
    for user in {user for user, _ in asked}:
        order = sorted(
            (item for item in range(scores.shape[1]) if scores[user, item] > -np.inf),
            key=scores[user].__getitem__,
            reverse=True,
        )
        ranked[user] = order
        unseen[user] = [item for item in order if (user, item) not in seen]

    def top(lists: dict[int, list[int]]) -> dict[str, float]:
        return {
            f"top_{k}": sum(item in lists[user][:k] for user, item in asked) / len(asked)
            for k in (1, 5, 10, 50, 100)
        }

    per_user: dict[str, float] = {}
    for k in (10, 100):
        recalls, gains = [], []
        for user, order in unseen.items():
            wanted = {item for one, item in asked if one == user}
            hits = [rank for rank, item in enumerate(order[:k]) if item in wanted]
            recalls.append(len(hits) / len(wanted))
            ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(wanted))))
            gains.append(sum(1 / math.log2(rank + 2) for rank in hits) / ideal)
        per_user[f"recall_at_{k}"] = sum(recalls) / len(recalls)
        per_user[f"ndcg_at_{k}"] = sum(gains) / len(gains)
    coverage = {
        f"top_{k}": len({item for order in unseen.values() for item in order[:k]}) / scores.shape[1]
        for k in (10, 100)
    }
    return {
        "all_items": top(ranked),
        "unseen_items": top(unseen),
        "per_user": per_user,
        "coverage": coverage,
    }


def test_equal_scores_are_not_all_hits() -> None:
    flat = np.zeros((1, 200), np.float32)
    quality = evaluation.evaluate(lambda users: flat[users], _rows((0, 0)), _rows((0, 60)))
    assert (quality.all_items.top_50, quality.all_items.top_100) == (0.0, 1.0)


def test_item_with_nan_score_is_not_ranked() -> None:
    scores = np.zeros((1, 200), np.float32)
    scores[0, 3] = np.nan
    quality = evaluation.evaluate(lambda users: scores[users], _rows((0, 0)), _rows((0, 3)))
    assert quality.all_items.top_100 == 0.0


def test_ranking_does_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(40, 300)).astype(np.float32)
    pairs = random.choice(40 * 300, 900, replace=False)
    rows = Interactions((pairs // 300).astype(np.int32), (pairs % 300).astype(np.int32))
    train, test = rows.take(np.arange(600)), rows.take(np.arange(600, 900))
    whole = evaluation.evaluate(lambda users: scores[users], train, test)
    monkeypatch.setattr(ranking, "_MAX_SCORES", 1000)
    assert evaluation.evaluate(lambda users: scores[users], train, test) == whole
    by_hand = [
        int(np.sum(scores[user] > scores[user, item])) < 100
        for user, item in zip(test.users, test.items, strict=True)
    ]
    assert whole.all_items.top_100 == pytest.approx(np.mean(by_hand))


def test_evaluation_without_test_rows_is_refused() -> None:
    nothing = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32))
    with pytest.raises(ValueError, match="no test rows"):
        evaluation.evaluate(lambda users: np.zeros((len(users), 3), np.float32), nothing, nothing)


def test_unknown_users_get_popular_items() -> None:
    vectors = np.eye(3, dtype=np.float32)
    popularity = np.array([1, 5, 3], np.float32)
    score = evaluation.dot_product_scorer(
        vectors, vectors, np.array([True, False, True]), popularity
    )
    assert score(np.array([0, 1], np.int32)).tolist() == [[1, 0, 0], [1, 5, 3]]


def test_item_with_a_zero_vector_is_not_ranked() -> None:
    score = evaluation.dot_product_scorer(
        np.array([[1.0, 0.0], [0.0, 0.0]], np.float32),
        np.array([[-1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], np.float32),
        np.array([True, False]),
        np.array([2.0, 0.0, 0.0], np.float32),
    )
    expected = [[-1.0, -np.inf, 0.0], [2.0, -np.inf, 0.0]]
    assert score(np.array([0, 1], np.int32)).tolist() == expected


def test_movielens_sized_data_takes_under_two_seconds() -> None:
    random = np.random.default_rng(0)
    pairs = random.choice(943 * 1682, 100_000, replace=False)
    rows = Interactions((pairs // 1682).astype(np.int32), (pairs % 1682).astype(np.int32))
    train, test = rows.take(np.arange(80_000)), rows.take(np.arange(80_000, 100_000))
    scorer = evaluation.popularity_scorer(baselines.popularity(train, 1682))
    started = time.process_time()
    evaluation.evaluate(scorer, train, test)
    # CPU time, so that other processes on a shared machine do not count.
    assert time.process_time() - started < 2
