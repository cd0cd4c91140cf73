"""What newly exported models are asked, and the query vectors that they must use for it."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.artifact.servable import Servable, VectorServable
from trainer.data.histories import Histories

#: The largest number of users or vectors, and of items, that a model is asked about.
MAX_QUERIES = 512
_MIN_QUERIES = 32
# Measuring recall computes this many exact scores at most.
_MAX_SCORES = 1_000_000_000
_RECENT_ITEMS = 3


def sample(count: int, items: int) -> NDArray[np.int64]:
    """Return evenly spaced rows to ask about.

    Args:
        count: the number of rows, of users or items, to choose from.
        items: the size of the catalogue. The larger it is, the fewer rows are chosen.
    """
    most = max(_MIN_QUERIES, min(MAX_QUERIES, _MAX_SCORES // items))
    return np.arange(0, count, max(1, -(-count // most)))


def prepare_questions(
    servable: VectorServable, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Return the catalogue, the questions and the expected query vectors, as arrays by name.

    Args:
        servable: what the models were exported from.
        queries: float32 [M, D], vectors to ask with; None to ask with the vectors of known
            users or, without users, of items.
    """
    items = len(servable.item_ids)
    asked_items = sample(items, items)
    vectors = servable.candidate_vectors
    item_queries = vectors if servable.item_queries is None else servable.item_queries
    arrays: dict[str, Any] = {
        "vectors": vectors,
        "item_ids": pa.array(servable.item_ids).cast(pa.large_binary()),
        "items": asked_items,
        "item_queries": item_queries[asked_items],
        "queries": vectors[asked_items]
        if queries is None
        else queries[sample(len(queries), items)],
    }
    if isinstance(servable, Servable):
        arrays |= _questions_about_users(servable)
    return arrays


def _questions_about_users(servable: Servable) -> dict[str, NDArray[Any]]:
    users = sample(len(servable.user_ids), len(servable.item_ids))
    stored = servable.histories.take(users)
    recent = np.random.default_rng(0).integers(
        len(servable.item_ids), size=(len(users), _RECENT_ITEMS), dtype=np.int32
    )
    # Some users send an item twice, and its last position counts. Some send fewer items.
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
    lengths = [len(one) for one in lists]
    items = np.array([item for one in lists for item in one], np.int32)
    return Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)
