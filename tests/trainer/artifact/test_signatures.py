"""The signatures of a model with an exact index answer as NumPy does."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scann  # noqa: F401  (registers the ops)
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_contract import MAX_K, MODEL_NAMES
from tests.trainer.numpy_oracle import NumpyOracle, history_tensor

SIGNATURES = (
    "by_user",
    "serving_default",
    "by_item",
    "by_history",
    "by_user_and_history",
    "by_vector",
)
#: Dimensions of the models in ``models_dir``, and the number of their items.
MODELS_DIR_DIM, MODELS_DIR_ITEMS = 64, 1682


@cache
def _oracle_and_signatures(
    items: int, *, history: bool, user_vectors: bool, item_queries: bool
) -> tuple[NumpyOracle, dict[str, Any]]:
    oracle = NumpyOracle(
        users=4,
        items=items,
        seed=items,
        history=history,
        user_vectors=user_vectors,
        item_queries=item_queries,
    )
    return oracle, oracle.signatures()


def _assert_answers(
    oracle: NumpyOracle,
    answer: dict[str, Any],
    expected: list[tuple[np.ndarray, bool]],
    ks: list[int],
) -> None:
    width = max(ks, default=0)
    assert answer["known"].numpy().tolist() == [known for _, known in expected]
    assert answer["item_id"].shape == answer["score"].shape == (len(ks), width)
    for row, ((all_scores, _), k) in enumerate(zip(expected, ks, strict=True)):
        ids, scores = oracle.top(all_scores, k, width)
        assert answer["item_id"].numpy()[row].tolist() == ids
        assert answer["score"].numpy()[row].tolist() == scores


@settings(max_examples=60)
@given(
    items=st.sampled_from([1, 2, 30]),
    parts=st.sampled_from([(True, True, True), (True, False, False), (False, True, False)]),
    batch=st.lists(
        st.tuples(
            st.integers(-1, 3),
            st.integers(0, 31),
            st.lists(st.integers(-1, 32), min_size=7, max_size=7),
            st.integers(0, 40),
        ),
        max_size=5,
    ),
    width=st.integers(0, 7),
)
def test_exact_model_answers_like_numpy(
    items: int,
    parts: tuple[bool, bool, bool],
    batch: list[tuple[int, int, list[int], int]],
    width: int,
) -> None:
    history, user_vectors, item_queries = parts
    oracle, signatures = _oracle_and_signatures(
        items, history=history, user_vectors=user_vectors, item_queries=item_queries
    )
    users = [user for user, _, _, _ in batch]
    similar_to = [item for _, item, _, _ in batch]
    recent = [row[:width] for _, _, row, _ in batch]
    ks = [k for _, _, _, k in batch]
    k = tf.constant(ks, tf.int32)
    user_id = tf.constant([f"u{user}" for user in users], tf.string)  # "u-1" is unknown.
    item_id = tf.constant([f"i{item}" for item in similar_to], tf.string)
    history_ids = history_tensor(recent, width)

    _assert_answers(
        oracle,
        signatures["by_user"](user_id, k),
        [oracle.query_scores(user, []) for user in users],
        ks,
    )
    _assert_answers(
        oracle,
        signatures["by_item"](item_id, k),
        [oracle.item_scores(item) for item in similar_to],
        ks,
    )
    _assert_answers(
        oracle,
        signatures["by_history"](history_ids, k),
        [oracle.query_scores(-1, row) for row in recent],
        ks,
    )
    _assert_answers(
        oracle,
        signatures["by_user_and_history"](user_id, history_ids, k),
        [oracle.query_scores(user, row) for user, row in zip(users, recent, strict=True)],
        ks,
    )


@pytest.fixture(scope="module", params=MODEL_NAMES)
def loaded(request: pytest.FixtureRequest, models_dir: Path) -> Any:
    return tf.saved_model.load(str(models_dir / request.param / "1"))


def _known_inputs(signature: str, rows: int) -> dict[str, tf.Tensor]:
    """Return valid inputs for a model of the synthetic data set, without ``k``."""
    inputs = {
        "user_id": tf.constant([f"u{row}" for row in range(rows)]),
        "item_id": tf.constant([f"i{row}" for row in range(rows)]),
        "history": tf.constant([[f"i{row}", ""] for row in range(rows)]),
        "vector": tf.fill([rows, MODELS_DIR_DIM], 0.1),
    }
    names = {
        "by_item": ["item_id"],
        "by_vector": ["vector"],
        "by_history": ["history"],
        "by_user_and_history": ["user_id", "history"],
    }.get(signature, ["user_id"])
    return {name: inputs[name] for name in names}


def test_models_have_all_signatures(loaded: Any) -> None:
    assert set(loaded.signatures) == set(SIGNATURES)


@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize(
    ("rows", "k"), [(1, [-1]), (1, [MAX_K + 1]), (2, [3]), (1, [3, 4]), (1, [])]
)
def test_invalid_k_is_an_invalid_argument(
    loaded: Any, signature: str, rows: int, k: list[int]
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="k must"):
        loaded.signatures[signature](**_known_inputs(signature, rows), k=tf.constant(k, tf.int32))


def test_different_numbers_of_users_and_histories_are_an_invalid_argument(loaded: Any) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="k must"):
        loaded.signatures["by_user_and_history"](
            user_id=tf.constant(["u0"]),
            history=tf.constant([["i0"], ["i1"]]),
            k=tf.constant([1], tf.int32),
        )


def test_largest_k_returns_the_whole_catalogue_and_filler(loaded: Any) -> None:
    answer = loaded.signatures["by_history"](
        history=tf.constant([["i0"]]), k=tf.constant([MAX_K], tf.int32)
    )
    ids = answer["item_id"].numpy()
    assert ids.shape == (1, MAX_K)
    assert len(set(ids[0][:MODELS_DIR_ITEMS].tolist())) == MODELS_DIR_ITEMS
    assert set(ids[0][MODELS_DIR_ITEMS:].tolist()) == {b""}
