"""The query tower gives the same results in training, in NumPy and in a SavedModel."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from trainer.artifact.ids import IdTable
from trainer.artifact.query_module import QueryModule
from trainer.config import ModelConfig
from trainer.data.histories import Histories
from trainer.model.towers import query as query_tower
from trainer.model.towers.candidate import CandidateTower
from trainer.model.towers.query import QueryTower, QueryWeights

ITEMS, USERS, DIM = 9, 4, 3
ITEM_IDS = np.array([f"i{i}" for i in range(ITEMS)], object)
USER_IDS = np.array([f"u{i}" for i in range(USERS)], object)


def _features(entities: int, count: int, seed: int) -> sparse.csr_matrix:
    return sparse.random(entities, count, 0.4, "csr", np.float32, np.random.default_rng(seed))


def _histories(lists: list[list[int]]) -> Histories:
    offsets = np.cumsum([0, *map(len, lists)])
    return Histories(offsets, np.array([item for history in lists for item in history], np.int32))


def _tower(config: ModelConfig, *, user_features: int = 0, item_features: int = 2) -> QueryTower:
    """Return a tower with random weights that are not zero."""
    tower = QueryTower(
        _features(ITEMS, item_features, 1),
        np.arange(ITEMS) < ITEMS - 1,
        _features(USERS, user_features, 2),
        np.arange(USERS) < USERS - 1,
        config,
        seed=3,
    )
    tower(_batch(_histories([[0]] * USERS), np.arange(USERS)))
    random = np.random.default_rng(4)
    for variable in tower.trainable_variables:
        variable.assign(random.normal(size=variable.shape).astype(np.float32))
    return tower


def _batch(histories: Histories, users: np.ndarray) -> dict[str, tf.Tensor]:
    return {
        "users": tf.constant(users, tf.int32),
        "history_items": tf.constant(histories.items),
        "history_rows": tf.constant(histories.rows(), tf.int32),
        "history_ages": tf.constant(histories.newer_counts(), tf.int32),
    }


def test_gradient_of_unit_length_at_zero_is_not_extreme() -> None:
    untrained = np.zeros(ITEMS, bool)
    config = ModelConfig(embedding_dim=DIM)
    features = sparse.csr_matrix(np.ones((ITEMS, 1), np.float32))
    items = CandidateTower(features, untrained, config, seed=1)
    tower = QueryTower(features, untrained, features, untrained, config, seed=1)
    # Feature embeddings and the base start at zero, and this query has no other parts.
    queries = _batch(_histories([[], []]), np.array([0, 1]))
    for layer, argument in ((items, tf.range(2)), (tower, queries)):
        with tf.GradientTape() as tape:
            vectors = layer(argument)
            loss = tf.reduce_sum(vectors)
        variables = tape.watched_variables()
        gradients = [value for value in tape.gradient(loss, variables) if value is not None]
        largest = max(float(tf.reduce_max(tf.abs(value))) for value in gradients)
        np.testing.assert_array_equal(vectors, np.zeros((2, DIM)))
        assert 0 < largest <= 2


def _expected_query(weights: QueryWeights, history: list[int], user: int | None) -> np.ndarray:
    """Return the query embedding, computed item by item."""
    query = weights.base.astype(np.float64).copy()
    if weights.item_vectors is not None:
        newest = history[max(len(history) - weights.history_length, 0) :]
        total, summed = 0.0, np.zeros(DIM)
        for place, item in enumerate(newest):
            bucket = min(int(np.log2(len(newest) - place)), query_tower.AGE_BUCKETS - 1)
            weight = np.exp(weights.item_log_weights[item] + weights.age_log_weights[bucket])
            total += weight
            summed += weight * weights.item_vectors[item]
        query += summed / max(total, 1e-9) ** weights.exponent
    if weights.user_vectors is not None and user is not None:
        query += weights.user_vectors[user]
    return query / np.linalg.norm(query) if weights.normalize else query


CONFIGS = st.builds(
    ModelConfig,
    embedding_dim=st.just(DIM),
    normalize=st.booleans(),
    history_length=st.sampled_from([1, 2, 5, 100]),
    history_exponent=st.sampled_from([0.0, 0.5, 1.0]),
    user_id=st.booleans(),
)
HISTORY = st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=ITEMS)


@settings(max_examples=25)
@given(
    config=CONFIGS,
    user_features=st.sampled_from([0, 3]),
    lists=st.lists(HISTORY, min_size=USERS, max_size=USERS),
)
def test_training_numpy_and_saved_model_agree(
    config: ModelConfig, user_features: int, lists: list[list[int]]
) -> None:
    tower = _tower(config, user_features=user_features)
    weights = tower.trained_weights()
    histories, users = _histories(lists), np.arange(USERS)
    expected = [_expected_query(weights, one, user) for user, one in enumerate(lists)]
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(weights.embed(histories, users), expected, **close)
    # Training cuts histories to their length before the tower sees them.
    newest = histories.newest(config.history_length)
    np.testing.assert_allclose(tower(_batch(newest, users)), expected, **close)
    module = QueryModule(weights, USER_IDS, histories, IdTable(ITEM_IDS, "items"))
    queries, known = module.embed(tf.constant(list(USER_IDS)), None)
    np.testing.assert_allclose(queries, expected, **close)
    assert known.numpy().all()
    alone = [_expected_query(weights, one, None) for one in lists]
    np.testing.assert_allclose(weights.embed(histories), alone, **close)


@settings(max_examples=25)
@given(
    config=CONFIGS,
    stored=st.lists(HISTORY, min_size=USERS, max_size=USERS),
    asked=st.lists(
        st.tuples(
            st.integers(-1, USERS - 1),
            st.lists(st.integers(-2, ITEMS - 1), min_size=6, max_size=6),
        ),
        min_size=1,
        max_size=4,
    ),
    width=st.integers(0, 6),
)
def test_request_history_is_newer_than_the_stored_one(
    config: ModelConfig,
    stored: list[list[int]],
    asked: list[tuple[int, list[int]]],
    width: int,
) -> None:
    """In ``asked``, -1 is padding and -2 an unknown id, and items may occur more than once."""
    weights = _tower(config).trained_weights()
    module = QueryModule(weights, USER_IDS, _histories(stored), IdTable(ITEM_IDS, "items"))
    sent = [history[:width] for _, history in asked]
    names = {-1: "", -2: "nothing", **dict(enumerate(ITEM_IDS))}
    history = tf.reshape(
        tf.constant([names[item] for one in sent for item in one], tf.string), [len(asked), width]
    )
    users = [user for user, _ in asked]
    user_id = tf.constant([f"u{user}" for user in users])

    queries, known = module.embed(user_id, history)
    expected = []
    for user, recent in zip(users, sent, strict=True):
        whole: list[int] = []
        for item in [*(stored[user] if user >= 0 else []), *(one for one in recent if one >= 0)]:
            if item in whole:
                whole.remove(item)
            whole.append(item)
        expected.append(_expected_query(weights, whole, user if user >= 0 else None))
    np.testing.assert_allclose(queries, expected, rtol=1e-4, atol=1e-4)
    has_items = [any(item >= 0 for item in one) for one in sent]
    assert known.numpy().tolist() == [u >= 0 or h for u, h in zip(users, has_items, strict=True)]

    alone, known = module.embed(None, history)
    again, _ = module.embed(tf.constant(["nobody"] * len(asked)), history)
    np.testing.assert_allclose(alone, again, rtol=1e-6)
    assert known.numpy().tolist() == has_items


def test_query_without_history_depends_only_on_the_user() -> None:
    config = ModelConfig(embedding_dim=DIM, history_length=0, user_id=True, normalize=False)
    weights = _tower(config).trained_weights()
    assert weights.item_vectors is None
    histories = _histories([[0, 1], [2], [], [3]])
    assert weights.user_vectors is not None
    # The last user has no training rows and therefore no id embedding.
    assert not weights.user_vectors[3].any()
    np.testing.assert_array_equal(weights.embed(histories, np.arange(4)), weights.user_vectors)
    queries, known = QueryModule(weights, USER_IDS, histories, IdTable(ITEM_IDS, "items")).embed(
        tf.constant(["u2", "nobody"]), tf.constant([["i1"], ["i1"]])
    )
    np.testing.assert_allclose(queries, [weights.user_vectors[2], np.zeros(DIM)])
    assert known.numpy().tolist() == [True, False], "this model ignores histories"


def test_weights_of_selected_users() -> None:
    weights = _tower(ModelConfig(embedding_dim=DIM, user_id=True)).trained_weights()
    some = weights.of_users(np.array([2, 0]))
    histories = _histories([[1], [2]])
    np.testing.assert_array_equal(
        some.embed(histories, np.arange(2)), weights.embed(histories, np.array([2, 0]))
    )
    without = replace(weights, user_vectors=None)
    assert without.of_users(np.array([0])) is without


def test_tensorflow_and_numpy_agree_on_age_buckets() -> None:
    ages = np.arange(100_001)
    buckets = query_tower.age_buckets(ages)
    assert buckets[[0, 1, 2, 3, 6, 7, 14, 15]].tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert buckets[[32_766, 32_767, 100_000]].tolist() == [14, 15, 15]
    assert np.array_equal(query_tower.age_buckets_tf(tf.constant(ages, tf.int32)), buckets)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_pooling_equals_hand_computed_values(exponent: float) -> None:
    vectors = tf.constant([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    log_weights = tf.math.log([1.0, 3.0, 0.5])
    pooled = query_tower.pool(vectors, log_weights, tf.constant([0, 0, 2]), 3, exponent)
    expected = np.array([[1 / 4**exponent, 3 / 4**exponent], [0, 0], [1 / 0.5**exponent] * 2])
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


def test_features_represent_an_item_without_training_rows() -> None:
    features = sparse.csr_matrix(np.array([[1, 0], [1, 0], [0, 0]], np.float32))
    trained = np.array([True, False, False])
    config = ModelConfig(embedding_dim=2, normalize=True, new_item_scale=0.5)
    tower = CandidateTower(features, trained, config, seed=1)
    tower(tf.constant([0]))
    ids, of_features = tower.variables
    if ids.shape != (3, 2):
        ids, of_features = of_features, ids
    ids.assign([[0.0, 2.0], [7.0, 7.0], [7.0, 7.0]])
    of_features.assign([[2.0, 0.0], [5.0, 5.0]])
    half = 0.5**0.5
    expected = [[half, half], [0.5, 0.0], [0.0, 0.0]]
    np.testing.assert_allclose(tower(tf.range(3)), expected, rtol=1e-6)
    # A training step leaves out the id embeddings of a share of the items.
    all_out = CandidateTower(features, trained, replace(config, item_id_dropout=1.0), seed=1)
    all_out(tf.constant([0]))
    all_out.set_weights(tower.get_weights())
    np.testing.assert_allclose(all_out(tf.range(3), training=True)[0], [1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(all_out(tf.range(3)), expected, rtol=1e-6)
