"""Newly exported models must answer as NumPy computes it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.trainer.probe.small_models import save_both, small_servable
from trainer.artifact.servable import Servable, VectorServable
from trainer.errors import VerificationError
from trainer.probe.exported_models import answer, check_exported_models
from trainer.probe.numpy_oracle import NumpyOracle
from trainer.probe.protocol import Message
from trainer.probe.questions import MAX_QUERIES, prepare_questions, sample


def _check(directory: Path, servable: VectorServable) -> dict[str, Any]:
    """Check in this process, which already has TensorFlow."""
    request = Message({"directory": str(directory)}, prepare_questions(servable))
    return dict(answer(request).values)


def _other_queries(servable: Servable) -> Servable:
    return replace(servable, query=replace(servable.query, base=servable.query.base + 1))


def _no_histories(servable: Servable) -> Servable:
    return replace(servable, histories=servable.histories.newest(0))


def _other_similar_items(servable: Servable) -> Servable:
    return replace(servable, item_queries=-servable.candidate_vectors)


def _other_popularity(servable: Servable) -> Servable:
    return replace(servable, popularity=servable.popularity + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_queries, "^retrieval_exact: by_user: scores differ from NumPy's"),
        (_no_histories, "^retrieval_exact: by_user: scores differ from NumPy's"),
        (_other_similar_items, "^retrieval_exact: by_item: scores differ from NumPy's"),
        (_other_popularity, "^retrieval_exact: by_user: does not return the most popular items"),
    ],
)
def test_model_that_differs_from_its_servable_is_found(
    change: Callable[[Servable], Servable], message: str, servable: Servable, exported: Path
) -> None:
    with pytest.raises(VerificationError, match=message):
        _check(exported, change(servable))


@pytest.mark.usefixtures("fresh_processes")
def test_fresh_process_returns_measurements_or_the_reason(
    servable: Servable, exported: Path
) -> None:
    measured = check_exported_models(exported, servable)
    retrieval = measured["retrieval"]
    for name in ("recall_at_10", "recall_at_100", "by_item_recall_at_100"):
        assert retrieval[name] == 1.0
    assert retrieval["recall_at_100_error"] == 0.0
    assert retrieval["queries"] == 4
    assert retrieval["milliseconds"] > 0
    assert retrieval["queries_per_second_of_32"] > 0
    assert measured["retrieval_exact"]["recall_at_100"] == 1.0
    with pytest.raises(VerificationError, match=r"^retrieval_exact: by_user: scores differ"):
        check_exported_models(exported, _other_queries(servable))
    assert not list(exported.glob(".probe*"))


def test_model_without_histories_is_checked(tmp_path: Path) -> None:
    servable = small_servable(history=False)
    save_both(servable, tmp_path)
    assert _check(tmp_path, servable)["retrieval"]["recall_at_100"] == 1.0


def test_model_without_users_is_checked(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    ids = np.array([f"i{n}" for n in range(2000)], "S")
    save_both(VectorServable(candidate_vectors=vectors, item_ids=ids), tmp_path)
    other_vectors = VectorServable(candidate_vectors=vectors[::-1].copy(), item_ids=ids)
    with pytest.raises(VerificationError, match="by_vector: scores differ"):
        _check(tmp_path, other_vectors)


def test_fewer_queries_are_sampled_from_larger_catalogues() -> None:
    assert sample(10, 100).tolist() == list(range(10))
    assert len(sample(1_000_000, 1_000_000)) == MAX_QUERIES
    assert len(sample(10_000_000, 10_000_000)) == 100
    assert len(sample(10**9, 10**9)) == 32


# The oracle itself.

IDS = [b"a", b"b", b"c", b"d"]
VECTORS = np.arange(16, dtype=np.float32).reshape(4, 4)
QUERIES = np.eye(3, 4, dtype=np.float32)
BEST_FIRST = np.array([[b"d", b"c"]] * 3, object)
SCORES = np.array([[12, 8], [13, 9], [14, 10]], np.float32)


def _require(condition: bool | np.bool_, problem: str) -> None:
    if not condition:
        raise VerificationError(problem)


@pytest.mark.parametrize("max_scores", [1, 8, 1000])
@pytest.mark.parametrize("row", range(3))
def test_every_row_is_compared_whatever_the_block_size(max_scores: int, row: int) -> None:
    oracle = NumpyOracle(
        VECTORS,
        pa.array(IDS, pa.large_binary()),
        _require,
        exact=True,
        max_scores=max_scores,
    )
    oracle.check("s", {"item_id": BEST_FIRST, "score": SCORES}, QUERIES)
    wrong = SCORES.copy()
    wrong[row, 1] += 1
    with pytest.raises(VerificationError, match="s: scores differ"):
        oracle.check("s", {"item_id": BEST_FIRST, "score": wrong}, QUERIES)


@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        ([b"d", b"x"], [12, 8], "returns an id that is not in the catalogue"),
        ([b"d", b"d"], [12, 12], "s: returns an item twice"),
        ([b"d", b"b"], [12, 4], "s: does not return the k best items"),
        ([b"d", b""], [12, -np.inf], "s: does not return the k best items"),
    ],
)
def test_wrong_items_are_found(items: list[bytes], scores: list[float], message: str) -> None:
    oracle = NumpyOracle(VECTORS, pa.array(IDS, pa.large_binary()), _require, exact=True)
    answer = {"item_id": np.array([items], object), "score": np.array([scores], np.float32)}
    with pytest.raises(VerificationError, match=message):
        oracle.check("s", answer, QUERIES[:1])


def test_approximate_model_may_miss_the_best_items() -> None:
    oracle = NumpyOracle(VECTORS, pa.array(IDS, pa.large_binary()), _require, exact=False)
    answer = {"item_id": np.array([[b"d", b"b"]], object), "score": np.array([[12, 4]], np.float32)}
    oracle.check("s", answer, QUERIES[:1])
    assert oracle.recall(QUERIES[:1], answer, np.array([8], np.float32)).tolist() == [0.5]
