"""The exact index and the exact scores that recall is measured against."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.index.clustered import DIM, clustered
from trainer.index import exact
from trainer.index.exact import ExactBuilder, ExactIndex, kth_best_scores


def test_search_returns_the_best_in_order_and_pads_beyond_the_catalogue() -> None:
    index = ExactIndex(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], np.float32))
    rows, scores = index.search(tf.constant([[1.0, 0.5]]), tf.constant(5))
    assert rows.numpy().tolist() == [[2, 0, 1, -1, -1]]
    assert scores.numpy().tolist() == [[2.0, 1.0, 0.5, -np.inf, -np.inf]]


def test_lower_row_wins_between_equal_scores() -> None:
    index = ExactIndex(np.ones((4, 2), np.float32))
    rows, _ = index.search(tf.constant([[1.0, 0.0]]), tf.constant(3))
    assert rows.numpy().tolist() == [[0, 1, 2]]


def test_builder_needs_no_queries() -> None:
    vectors = clustered(5, 1)
    index = ExactBuilder().build(vectors, {}, 0.95, print)
    assert index.dim == DIM
    assert index.description() == {"kind": "exact"}
    np.testing.assert_array_equal(index.vectors(tf.constant([3, 0])), vectors[[3, 0]])


@pytest.mark.parametrize("scores_per_block", [7 * 13, 1, 10**9])
def test_kth_best_scores_do_not_depend_on_the_block_size(
    scores_per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = clustered(1_000, 1), clustered(7, 2)
    scores = -np.sort(-(queries @ vectors.T), axis=1)
    monkeypatch.setattr(exact, "_SCORES_PER_BLOCK", scores_per_block)
    found = kth_best_scores(vectors, queries, [1, 20, 1_000])
    np.testing.assert_allclose(found, scores[:, [0, 19, 999]], rtol=1e-5)
