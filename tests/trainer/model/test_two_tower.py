"""Losses equal their formulas, computed target by target in NumPy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import sparse

from trainer.config import ModelConfig, TrainingConfig
from trainer.data.histories import Histories
from trainer.model.towers.candidate import CandidateTower
from trainer.model.towers.query import QueryTower
from trainer.model.training.batches import Batches, Step
from trainer.model.two_tower import TwoTowerModel

ITEMS, USERS = 8, 6
LISTS = [[0, 1, 2, 3], [3, 4, 0], [5, 6, 7], [1, 2], [4, 0, 7, 6, 2], [0, 5]]
HISTORIES = Histories(
    np.cumsum([0, *map(len, LISTS)]),
    np.array([item for history in LISTS for item in history], np.int32),
)
CONFIG = TrainingConfig(batch_size=4, negatives=3, temperature=0.5)


def _model(config: TrainingConfig, objective: Any, *, rated: bool = False) -> TwoTowerModel:
    no_item_features = sparse.csr_matrix((ITEMS, 0), dtype=np.float32)
    no_user_features = sparse.csr_matrix((USERS, 0), dtype=np.float32)
    towers = ModelConfig(embedding_dim=3, user_id=True)
    model = TwoTowerModel(
        QueryTower(
            no_item_features,
            np.ones(ITEMS, bool),
            no_user_features,
            np.ones(USERS, bool),
            towers,
            seed=1,
        ),
        CandidateTower(no_item_features, np.ones(ITEMS, bool), towers, seed=2),
        replace(config, objective=objective),
        items=ITEMS,
        rated=rated,
    )
    model.compute_loss(_tensors(_step(config, objective)))
    random = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape).astype(np.float32))
    return model


def _step(config: TrainingConfig, objective: Any) -> Step:
    batches = Batches(
        *(HISTORIES, ITEMS, replace(config, objective=objective)), history_length=10, seed=4
    )
    return next(iter(batches.epoch()))


def _tensors(step: Step) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in step.arrays().items()}


def _scores(model: TwoTowerModel, step: Step, config: TrainingConfig) -> np.ndarray:
    """Return the scores of all queries and candidates from the towers' embeddings, [B, C]."""
    queries = model.query_tower(_tensors(step)).numpy().astype(np.float64)
    candidates = model.candidate_tower(tf.constant(step.candidates, tf.int32)).numpy()
    scores: np.ndarray = queries @ candidates.astype(np.float64).T / config.temperature
    return scores


def _mean_loss(scores: np.ndarray, step: Step, hardest: int = 0) -> float:
    """Return the weighted mean of -log softmax of each target among the candidates."""
    losses = []
    for row, column in zip(step.target_rows, step.target_columns, strict=True):
        among = np.sort(scores[row])[-hardest:] if hardest else scores[row]
        losses.append(np.log(np.exp(among).sum()) - scores[row, column])
    return float(np.average(losses, weights=step.target_weights))


def _loss(model: TwoTowerModel, step: Step) -> float:
    return float(model.compute_loss(_tensors(step)))


@pytest.mark.parametrize("changed", [{}, {"kept_weight": 0.3}, {"temperature": 2.0}])
def test_full_softmax_loss_equals_numpy(changed: dict[str, Any]) -> None:
    config = replace(CONFIG, **changed)
    model, step = _model(config, "full_softmax"), _step(config, "full_softmax")
    assert len(step.target_rows) > len(step.users), "some queries must have several targets"
    if "kept_weight" in changed:
        assert set(step.target_weights) == {0.3, 1.0}
    expected = _mean_loss(_scores(model, step, config), step)
    assert _loss(model, step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("hardest", [1, 3, 1000])
def test_hard_negatives_limit_the_softmax(hardest: int) -> None:
    config = replace(CONFIG, hard_negatives=hardest)
    model, step = _model(config, "full_softmax"), _step(config, "full_softmax")
    scores = _scores(model, step, config)
    assert _loss(model, step) == pytest.approx(_mean_loss(scores, step, hardest), rel=1e-5)
    different = abs(_mean_loss(scores, step) - _mean_loss(scores, step, hardest)) > 0.01
    assert different == (hardest < ITEMS)


@pytest.mark.parametrize("corrected", [True, False])
def test_sampled_softmax_loss_equals_numpy(corrected: bool) -> None:
    config = replace(CONFIG, logq_correction=corrected, negatives_from="popularity")
    model, step = _model(config, "sampled_softmax"), _step(config, "sampled_softmax")
    assert np.ptp(step.log_expected) > 0.1
    scores = _scores(model, step, config) - corrected * step.log_expected
    assert _loss(model, step) == pytest.approx(_mean_loss(scores, step), rel=1e-5)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("hardest", [0, 2])
def test_in_batch_loss_equals_numpy(corrected: bool, removed: bool, hardest: int) -> None:
    """The loss is a sum, as in the task of TensorFlow Recommenders."""
    config = replace(
        CONFIG,
        batch_size=10,
        logq_correction=corrected,
        remove_accidental_hits=removed,
        hard_negatives=hardest,
    )
    model, step = _model(config, "in_batch"), _step(config, "in_batch")
    scores = _scores(model, step, config) - corrected * step.log_expected
    assert len(set(step.candidates)) < len(step.candidates), "some item must occur more than once"
    expected = 0.0
    for row in range(len(step.users)):
        again = step.candidates == step.candidates[row]
        again[row] = False
        others = np.delete(scores[row], np.append(np.flatnonzero(again & removed), row))
        if hardest:
            others = np.sort(others)[-hardest:]
        expected += np.log(np.exp(np.append(others, scores[row, row])).sum()) - scores[row, row]
    assert _loss(model, step) == pytest.approx(expected, rel=1e-4)


def test_dropout_applies_only_in_training() -> None:
    no_item_features = sparse.csr_matrix((ITEMS, 0), dtype=np.float32)
    no_user_features = sparse.csr_matrix((USERS, 0), dtype=np.float32)
    config = ModelConfig(embedding_dim=3, user_id=True, user_id_dropout=1.0, normalize=False)
    tower = QueryTower(
        no_item_features,
        np.ones(ITEMS, bool),
        no_user_features,
        np.ones(USERS, bool),
        config,
        seed=1,
    )
    step = _tensors(_step(CONFIG, "full_softmax"))
    own = tower(step) - tower(step, training=True)
    users = tower.trained_weights().user_vectors
    assert users is not None
    np.testing.assert_allclose(own, users[step["users"]], atol=1e-6)


@pytest.mark.parametrize("objective", ["full_softmax", "in_batch"])
def test_rating_loss_equals_numpy(objective: Any) -> None:
    """A predicted rating is the item's mean rating plus the scaled score."""
    values = np.random.default_rng(1).normal(size=len(HISTORIES.items)).astype(np.float32)
    rated = replace(HISTORIES, ratings=values)
    config = replace(CONFIG, objective=objective, kept_weight=0.3, rating_weight=0.7)
    step = next(iter(Batches(rated, ITEMS, config, history_length=10, seed=4).epoch()))
    ratings = {
        (user, int(item)): float(rating)
        for user, (items, of_items) in enumerate(
            zip(LISTS, np.split(values, rated.offsets[1:-1]), strict=True)
        )
        for item, rating in zip(items, of_items, strict=True)
    }
    model = _model(config, objective, rated=True)
    item_means = model._item_ratings.numpy()
    cosines = _scores(model, step, replace(config, temperature=1.0))
    errors = []
    for row, column, rating in zip(
        step.target_rows, step.target_columns, step.target_ratings, strict=True
    ):
        item = step.candidates[column]
        assert rating == pytest.approx(ratings[int(step.users[row]), int(item)])
        predicted = item_means[item] + float(model._rating_scale) * cosines[row, column]
        errors.append((predicted - rating) ** 2)
    with_ratings = _loss(model, step)
    model._rating_weight = 0.0
    error = np.average(errors, weights=step.target_weights)
    if objective == "in_batch":
        error = np.sum(errors)
    assert with_ratings - _loss(model, step) == pytest.approx(0.7 * error, rel=1e-4)
