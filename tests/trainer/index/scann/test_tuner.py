"""The tuner chooses the fastest searcher that reaches the recall target, or says why none does."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.trainer.index.clustered import clustered
from trainer.config import ScannConfig
from trainer.errors import IndexTuningError
from trainer.index.scann.depth_tuning import TuningResult
from trainer.index.scann.tuner import Tuner
from trainer.index.workload import Latency, Workload


def _tune(
    vectors: np.ndarray, kind: str = "auto", target_recall: float = 0.95, **settings: Any
) -> TuningResult:
    queries = {"queries": clustered(600, 2)}
    return Tuner(vectors, queries, kind, ScannConfig(**settings), target_recall).tune()


def _fake_latency(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Make the latency depend on the kind of searcher instead of the load on the machine."""

    def latency(_: Workload, search: "partial[np.ndarray]") -> Latency:
        searcher: Any = search.func.__self__  # type: ignore[attr-defined]
        kind = searcher.design.kind
        return Latency(seconds[kind], seconds[kind])

    monkeypatch.setattr(Workload, "latency", latency)


def test_exact_searcher_is_kept_unless_another_is_much_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _fake_latency(monkeypatch, brute_force=1.0, quantized_brute_force=0.9, hashing=0.7)
    tuned = _tune(clustered(1_700, 1))
    assert tuned.searcher.design.kind == "brute_force"
    assert tuned.reason == "exact, and no other kind was 1.5 times as fast"
    assert {point.design.kind for point in tuned.tried} >= {"brute_force", "hashing"}


def test_much_faster_approximate_searcher_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_latency(monkeypatch, brute_force=1.0, quantized_brute_force=0.6, hashing=0.5)
    tuned = _tune(clustered(1_700, 1))
    assert tuned.searcher.design.kind == "hashing"
    assert tuned.reason == "the fastest kind with a recall of at least 0.95"


def test_partitions_are_tried_for_a_large_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    latencies = {"brute_force": 4.0, "quantized_brute_force": 3.0, "hashing": 2.0}
    _fake_latency(monkeypatch, **latencies, partitions=1.0)
    tuned = _tune(clustered(40_000, 1))
    assert tuned.searcher.design.kind == "partitions"
    assert {point.design.kind for point in tuned.tried} == {*latencies, "partitions"}


def test_small_catalogue_is_searched_exactly() -> None:
    tuned = _tune(clustered(999, 1))
    assert tuned.searcher.design.kind == "brute_force"
    assert tuned.reason == "the only kind for 999 items"


def test_unreachable_target_names_the_nearest_kind() -> None:
    message = r"0.9999 .* recall was 0\.\d+, of the kind quantized_brute_force\."
    with pytest.raises(IndexTuningError, match=message):
        _tune(clustered(3_000, 1), "quantized_brute_force", target_recall=0.9999)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("hashing", {}, "needs at least 16 items, but there are only 5"),
        ("auto", {"leaves": 6}, "index.leaves 6 is more than the number of items, 5"),
    ],
)
def test_settings_for_more_items_than_there_are_fail(
    kind: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(IndexTuningError, match=message):
        _tune(clustered(5, 1), kind, **settings)
