"""Queries for newly exported models, and the query vectors that the models must compute."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.artifact.servable import Servable, VectorServable
from trainer.data.histories import Histories

#: Each signature gets at most this many queries.
MAX_QUERIES = 512
_MIN_QUERIES = 32
# NumPy computes at most this many exact scores to measure recall, unless _MIN_QUERIES need more.
_MAX_SCORES = 1_000_000_000
_RECENT_ITEMS = 3


def sample(count: int, catalogue_size: int) -> NDArray[np.int64]:
    """Return evenly spaced rows, of ``count`` users, items or vectors, to query with.

    The larger the catalogue, the fewer rows are chosen.
    """
    max_rows = max(_MIN_QUERIES, min(MAX_QUERIES, _MAX_SCORES // catalogue_size))
    return np.arange(0, count, max(1, math.ceil(count / max_rows)))


def prepare_questions(
    servable: VectorServable, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Return the catalogue, the queries and the expected query vectors, as arrays by name.

    Args:
        servable: what the models were exported from.
        queries: float32 [M, D], query vectors to sample from if there are no users; None samples
            the vectors of items. With users, the vectors of users are sampled instead.
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
    users = sample(len(servable.user_ids), len(servable.item_ids))
    stored = servable.histories.take(users)
    recent = np.random.default_rng(0).integers(
        len(servable.item_ids), size=(len(users), _RECENT_ITEMS), dtype=np.int32
    )
    # Some of these recent items contain an item twice, of which the last position counts, and some
    # contain fewer than three items.
    recent[::2, 0] = recent[::2, 2]
    recent[::3, 1] = -1
    distinct = [
        list(dict.fromkeys(item for item in row[::-1] if item >= 0))[::-1] for row in recent
    ]
    combined = [
        [*(item for item in old if item not in new), *new]
        for old, new in zip(np.split(stored.items, stored.offsets[1:-1]), distinct, strict=True)
    ]
    return {
        "user_ids": servable.user_ids[users].astype(str),
        "history": np.where(recent < 0, "", servable.item_ids[recent]).astype(str),
        "queries": servable.query.embed(stored, users),
        "history_queries": servable.query.embed(_histories(distinct)),
        "combined_queries": servable.query.embed(_histories(combined), users),
        "uses_history": np.array(servable.query.item_vectors is not None),
        "popularity": servable.popularity,
    }


def _histories(lists: list[list[int]]) -> Histories:
    lengths = [len(row) for row in lists]
    items = np.array([item for row in lists for item in row], np.int32)
    return Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)
