"""The queries for checking newly exported models, with the query vectors that must be computed."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.artifact.servable import Servable, VectorServable
from trainer.data.histories import Histories

#: The maximum number of queries per signature.
MAX_QUERIES = 512
_MIN_QUERIES = 32
# At most this many exact scores are computed to measure recall, unless _MIN_QUERIES need more.
_MAX_SCORES = 1_000_000_000
_RECENT_ITEMS = 3


def sample(count: int, catalogue_size: int) -> NDArray[np.int64]:
    """Return an evenly spaced sample of the rows of ``count`` users, items or vectors.

    The sample is smaller for a larger catalogue, because every query is scored against all items.
    """
    max_rows = max(_MIN_QUERIES, min(MAX_QUERIES, _MAX_SCORES // catalogue_size))
    return np.arange(0, count, max(1, math.ceil(count / max_rows)))


def prepare_questions(
    servable: VectorServable, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Return the catalogue, the queries and the expected query vectors as arrays by name.

    Args:
        servable: the data that the models were exported from.
        queries: see :func:`trainer.probe.exported_models.check_exported_models`.
    """
    catalogue_size = len(servable.item_ids)
    sampled_items = sample(catalogue_size, catalogue_size)
    vectors = servable.candidate_vectors
    item_queries = vectors if servable.item_queries is None else servable.item_queries
    arrays: dict[str, Any] = {
        "vectors": vectors,
        "item_ids": pa.array(servable.item_ids).cast(pa.large_binary()),
        "items": sampled_items,
        "item_queries": item_queries[sampled_items],
        "queries": vectors[sampled_items]
        if queries is None
        else queries[sample(len(queries), catalogue_size)],
    }
    if isinstance(servable, Servable):
        arrays |= _user_queries(servable)
    return arrays


def _user_queries(servable: Servable) -> dict[str, NDArray[Any]]:
    """Return queries by user, by history and by both, with their expected query vectors."""
    users = sample(len(servable.user_ids), len(servable.item_ids))
    stored = servable.histories.take(users)
    recent = np.random.default_rng(0).integers(
        len(servable.item_ids), size=(len(users), _RECENT_ITEMS), dtype=np.int32
    )
    recent[::2, 0] = recent[::2, 2]  # Every second history contains an item twice.
    recent[::3, 1] = -1  # Padding.
    histories = [_last_occurrences(row) for row in recent]
    combined = [
        _last_occurrences(np.append(old, new))
        for old, new in zip(np.split(stored.items, stored.offsets[1:-1]), recent, strict=True)
    ]
    return {
        "user_ids": servable.user_ids[users].astype(str),
        "history": np.where(recent < 0, "", servable.item_ids[recent]).astype(str),
        "queries": servable.query.embed(stored, users),
        "history_queries": servable.query.embed(_histories(histories)),
        "combined_queries": servable.query.embed(_histories(combined), users),
        "uses_history": np.array(servable.query.item_vectors is not None),
        "popularity": servable.popularity,
    }


def _last_occurrences(items: NDArray[np.int32]) -> list[int]:
    """Return the items without padding, and with only the last occurrence of each item."""
    newest_first = dict.fromkeys(items[items >= 0][::-1].tolist())
    return list(newest_first)[::-1]


def _histories(lists: list[list[int]]) -> Histories:
    lengths = [len(row) for row in lists]
    items = np.array([item for row in lists for item in row], np.int32)
    return Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)
