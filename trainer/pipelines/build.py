"""Builds a version's two indexes, exports a model with each index, and sets up the publication."""

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from serving_contract import RETRIEVAL, RETRIEVAL_EXACT
from trainer import report
from trainer.artifact import saved_model
from trainer.artifact.servable import Servable, VectorServable
from trainer.config import IndexConfig
from trainer.index import kinds, memory
from trainer.index.base import Queries
from trainer.index.exact import ExactBuilder
from trainer.probe.exported_models import check_exported_models
from trainer.probe.questions import sample
from trainer.registry.publication import Publication
from trainer.registry.store import Store

# With fewer queries than this, all queries are used for both tuning and verification.
_MIN_QUERIES_TO_SPLIT = 200
_MAX_TUNING_QUERIES = 2_000


def build(
    servable: VectorServable,
    directory: Path,
    settings: IndexConfig,
    manifest: Mapping[str, Any],
    notify: Callable[[str], object],
    queries: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Export the models ``retrieval`` and ``retrieval_exact`` into ``directory``.

    Args:
        servable: the data from which both models are exported.
        directory: an existing directory, usually the staging directory of a version.
        settings: the kind and settings of the index in ``retrieval``.
        manifest: additional entries for both models' manifest.json.
        notify: called with progress messages.
        queries: float32 [M, D], typical queries for tuning the index, in addition to item vectors.
            Ignored for a :class:`Servable`, whose users' query vectors are used instead.

    Returns:
        The description of each index, by model name.

    Raises:
        IndexTuningError: no index of the configured kind reaches the recall target.
    """
    vectors = servable.candidate_vectors
    builder = kinds.builder(settings)
    if warning := memory.warning(builder, *vectors.shape):
        notify(warning)
    tuning_queries = _tuning_queries(servable, queries)
    descriptions = {}
    for name, index_builder in ((RETRIEVAL_EXACT, ExactBuilder()), (RETRIEVAL, builder)):
        index = index_builder.build(vectors, tuning_queries, settings.target_recall, notify)
        gc.collect()  # Free the memory used for tuning, to lower peak memory while saving.
        saved_model.save(servable, index, directory / name, name, manifest)
        descriptions[name] = index.description()
        del index
        gc.collect()  # Free the index now, because it is part of reference cycles.
    return descriptions


def publication(store: Store, console: Console) -> Publication:
    """Return a publication that uses :func:`build`, the probe's checks and the report."""
    return Publication(
        store=store,
        console=console,
        build_models=build,
        verify_models=check_exported_models,
        write_report=report.write,
        show_report=report.show,
    )


def split_queries(
    queries: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Split queries, float32 [M, D], into a part for tuning an index and a part for verification.

    With fewer than 200 queries, both parts contain all queries. Without queries, both are None.
    """
    if queries is None or len(queries) < _MIN_QUERIES_TO_SPLIT:
        return queries, queries
    return queries[1::2], queries[::2]


def _tuning_queries(servable: VectorServable, queries: NDArray[np.float32] | None) -> Queries:
    """Return tuning queries by kind, if possible without the queries used for verification."""
    item_queries = servable.item_queries
    if item_queries is None:
        item_queries = servable.candidate_vectors
    item_count = len(item_queries)
    by_kind = {"items": item_queries[_tuning_rows(item_count, item_count)]}
    if isinstance(servable, Servable):
        users = _tuning_rows(len(servable.user_ids), item_count)
        queries = servable.query.embed(servable.histories.take(users), users)
    return by_kind if queries is None else {"queries": queries, **by_kind}


def _tuning_rows(count: int, item_count: int) -> NDArray[np.int64]:
    """Return rows below ``count`` that verification does not use, or any rows if too few remain."""
    unused = np.setdiff1d(np.arange(count), sample(count, item_count), assume_unique=True)
    chosen = unused if len(unused) >= _MIN_QUERIES_TO_SPLIT else np.arange(count)
    spread = np.linspace(0, len(chosen) - 1, min(_MAX_TUNING_QUERIES, len(chosen)))
    return chosen[spread.astype(np.int64)]
