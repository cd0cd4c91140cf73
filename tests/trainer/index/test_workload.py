from functools import partial

import numpy as np
import pytest

from tests.trainer.index.clustered import clustered
from trainer.index.workload import BATCH_SIZE, Workload


def _exact_search(vectors: np.ndarray, k: int, queries: np.ndarray) -> np.ndarray:
    return np.argsort(-(queries @ vectors.T), axis=1)[:, :k].astype(np.int32)


def test_exact_search_has_recall_1() -> None:
    vectors = clustered(500, 1)
    workload = Workload(vectors, {"queries": clustered(60, 2)}, [10, 1_000])
    assert workload.ks == [10, 500]
    for k in workload.ks:
        estimate = workload.recall(partial(_exact_search, vectors, k), k)
        assert estimate == (1.0, 0.0)


def test_recall_is_that_of_the_worst_kind_of_query() -> None:
    vectors = clustered(500, 1)
    by_kind = {"good": clustered(60, 2), "bad": -clustered(60, 2)}
    workload = Workload(vectors, by_kind, [10])

    def search(queries: np.ndarray) -> np.ndarray:
        found = _exact_search(vectors, 10, queries)
        found[queries[:, 0] == by_kind["bad"][0, 0], 5:] = -1
        return found

    estimate = workload.recall(search, 10)
    assert estimate.mean == pytest.approx(1 - 0.5 / 60)
    assert estimate.standard_error > 0


def test_latency_is_measured_for_single_queries_and_batches() -> None:
    sizes = []

    def search(queries: np.ndarray) -> np.ndarray:
        sizes.append(len(queries))
        return np.zeros((len(queries), 1), np.int32)

    latency = Workload(clustered(500, 1), {"queries": clustered(5, 2)}, [1]).latency(search)
    assert set(sizes) == {1, BATCH_SIZE}
    assert latency.single_s > 0
    assert latency.batch_s > 0
