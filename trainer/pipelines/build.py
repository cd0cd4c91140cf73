"""From a servable to two models in a directory."""

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_contract import RETRIEVAL, RETRIEVAL_EXACT
from trainer.artifact import export
from trainer.config import IndexConfig
from trainer.index import memory
from trainer.index.exact import ExactIndex
from trainer.probe.questions import asked

# Fewer queries than this are not divided into some to tune with and some to judge by.
_DIVIDED_FROM = 200
_MOST_TO_TUNE_WITH = 2_000


def build(
    servable: export.VectorServable,
    directory: Path,
    settings: IndexConfig,
    manifest: Mapping[str, Any],
    notice: Callable[[str], object],
    queries: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Tune the index and write ``retrieval`` and ``retrieval_exact`` into ``directory``.

    Args:
        servable: what answers.
        directory: there already, and on its way to be published.
        settings: of the index.
        manifest: what else is to be known of the models.
        notice: told what goes on.
        queries: float32 [M, D], to tune with; without them those of known users, or of items.

    Returns:
        what each index was built with, by model name.

    Raises:
        IndexTuningError: no index finds as much as it is to.
    """
    # Only here: without ScaNN's wheel the rest of the trainer can still be imported.
    from trainer.index import tuner as tuning
    from trainer.index.scann import ScannIndex

    vectors = servable.candidate_vectors
    if said := memory.warning(*vectors.shape):
        notice(said)
    exact = ExactIndex(vectors)
    export.export(servable, exact, directory / RETRIEVAL_EXACT, RETRIEVAL_EXACT, manifest)
    exact_parameters = exact.parameters()
    del exact
    gc.collect()  # Traced functions and what they hold refer to one another.
    notice(f"Looking for the cheapest index that finds {settings.target_recall:.0%}")
    tuned = tuning.tune(vectors, _kinds(servable, queries), settings, notice)
    described = tuned.described()
    index = ScannIndex(vectors, tuned)
    # What is saved is the index's copy.
    del tuned
    gc.collect()
    export.export(servable, index, directory / RETRIEVAL, RETRIEVAL, manifest)
    del index
    gc.collect()
    return {RETRIEVAL: described, RETRIEVAL_EXACT: exact_parameters}


def _kinds(
    servable: export.VectorServable, queries: NDArray[np.float32] | None
) -> dict[str, NDArray[np.float32]]:
    """Query vectors of every kind that will come, apart from those that the index is judged by."""
    items = servable.item_queries
    if items is None:
        items = servable.candidate_vectors
    kinds = {"items": items[_not_asked(len(items), len(items))]}
    if isinstance(servable, export.Servable):
        users = _not_asked(len(servable.user_ids), len(items))
        queries = servable.query.embed(servable.histories.take(users), users)
    return kinds if queries is None else {"queries": queries, **kinds}


def divided(
    queries: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Some to tune with, the others to judge by; all for both where there are few."""
    if queries is None or len(queries) < _DIVIDED_FROM:
        return queries, queries
    return queries[1::2], queries[::2]


def _not_asked(count: int, items: int) -> NDArray[np.int64]:
    """Which of ``count`` the verification does not ask for; some of all, where few are left."""
    others = np.setdiff1d(np.arange(count), asked(count, items), assume_unique=True)
    chosen = others if len(others) >= _DIVIDED_FROM else np.arange(count)
    return chosen[
        np.linspace(0, len(chosen) - 1, min(_MOST_TO_TUNE_WITH, len(chosen))).astype(np.int64)
    ]
