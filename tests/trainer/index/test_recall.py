import numpy as np
import pytest

from tests.trainer.index.clustered import clustered
from trainer.index.exact import kth_best_scores, recall


@pytest.mark.parametrize(
    ("rows", "share"), [([0, 2], 1.0), ([1, 2], 1.0), ([0, 3], 0.5), ([-1, -1], 0.0)]
)
def test_any_of_several_items_with_equal_scores_counts(rows: list[int], share: float) -> None:
    vectors = np.array([[1.0], [1.0], [1.0], [0.5]], np.float32)
    queries = np.array([[1.0]], np.float32)
    kth_best = kth_best_scores(vectors, queries, [2])[:, 0]
    assert recall(np.array([rows], np.int32), queries, vectors, kth_best) == [share]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_recall_does_not_depend_on_the_scale_of_vectors(scale: float) -> None:
    vectors, queries = clustered(1_500, 1) * np.float32(scale), clustered(20, 2)
    kth_best = kth_best_scores(vectors, queries, [50])[:, 0]
    order = np.argsort(-(queries @ vectors.T), axis=1).astype(np.int32)
    assert recall(order[:, :50], queries, vectors, kth_best).tolist() == [1.0] * 20
    assert recall(order[:, 50:100], queries, vectors, kth_best).max() < 0.1
