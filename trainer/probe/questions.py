"""What exported models are asked, and NumPy's query vectors for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
from numpy.typing import NDArray

from trainer.artifact.servable import Servable, VectorServable
from trainer.data.histories import Histories

#: The file of the item ids, beside a .npy for each array.
IDS = "item_ids"
#: At most so many users, or vectors, and items are asked for.
MOST_QUERIES = 512

# So many exact scores are computed for the recall at the most.
_MOST_SCORES = 1_000_000_000
_RECENT = 3


def asked(count: int, items: int) -> NDArray[np.int64]:
    """Which of ``count`` users or items are asked for, where there are so many items."""
    most = max(32, min(MOST_QUERIES, _MOST_SCORES // items))
    return np.arange(0, count, max(1, -(-count // most)))


def write(
    servable: VectorServable, directory: Path, queries: NDArray[np.float32] | None = None
) -> None:
    """What ``directory`` is to hold: questions, and NumPy's query vectors for them."""
    items = len(servable.item_ids)
    some = asked(items, items)
    vectors = servable.candidate_vectors
    similar = vectors if servable.item_queries is None else servable.item_queries
    # A file for each array: the large ones are mapped, not read.
    arrays: dict[str, NDArray[Any]] = {
        "vectors": vectors,
        "items": some,
        "item_queries": similar[some],
        "queries": vectors[some] if queries is None else queries[asked(len(queries), items)],
    }
    if isinstance(servable, Servable):
        arrays |= _questions_of_users(servable)
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    ids = pa.table({IDS: pa.array(servable.item_ids).cast(pa.large_binary())})
    pyarrow.feather.write_feather(ids, str(directory / IDS), compression="uncompressed")


def _questions_of_users(servable: Servable) -> dict[str, NDArray[Any]]:
    users = asked(len(servable.user_ids), len(servable.item_ids))
    stored = servable.histories.take(users)
    recent = np.random.default_rng(0).integers(
        len(servable.item_ids), size=(len(users), _RECENT), dtype=np.int32
    )
    # Some send an item twice, of which the last counts; some send fewer.
    recent[::2, 0] = recent[::2, 2]
    recent[::3, 1] = -1
    alone = [list(dict.fromkeys(item for item in new[::-1] if item >= 0))[::-1] for new in recent]
    joined = [
        [*(item for item in old if item not in new), *new]
        for old, new in zip(np.split(stored.items, stored.offsets[1:-1]), alone, strict=True)
    ]
    return {
        "user_ids": servable.user_ids[users].astype(str),
        "history": np.where(recent < 0, "", servable.item_ids[recent]).astype(str),
        "queries": servable.query.embed(stored, users),
        "history_queries": servable.query.embed(_histories(alone)),
        "joined_queries": servable.query.embed(_histories(joined), users),
        "uses_history": np.array(servable.query.item_vectors is not None),
        "popularity": servable.popularity,
    }


def _histories(lists: list[list[int]]) -> Histories:
    lengths = [len(one) for one in lists]
    items = np.array([item for one in lists for item in one], np.int32)
    return Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)
