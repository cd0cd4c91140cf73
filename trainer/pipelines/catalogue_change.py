"""Adds, updates and removes items of a stored catalogue. All other items stay as they are."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.artifact.stored_towers import StoredTowers
from trainer.data.files import Items
from trainer.errors import DataError
from trainer.model import item_to_item
from trainer.model.towers.candidate import Array, take_rows


@dataclass(frozen=True)
class Counts:
    """The numbers of items that a change added, updated with new features, and removed."""

    added: int = 0
    updated: int = 0
    removed: int = 0


def change(
    stored: StoredTowers, items: Items | None, removed: NDArray[np.object_]
) -> tuple[StoredTowers, Counts]:
    """Return a stored catalogue with ``items`` added or updated and ``removed`` items removed.

    An item that exists already keeps its trained vector and its popularity, and gets the new
    features and, if there is one, the new title. ``items`` have the model's feature columns. Ids in
    ``removed``, distinct str objects, that do not exist are ignored.

    Raises:
        DataError: an item is both updated and removed, or no item or user would be left.
    """
    if items is not None and (both := np.intersect1d(removed, items.ids)).size:
        raise DataError(f"item {both[0]!r} is among both the items to add and those to remove")
    rows = _rows(stored.servable.item_ids, removed)
    kept = np.ones(len(stored.titles), np.bool_)
    kept[rows[rows >= 0]] = False
    counts = Counts(removed=int(np.count_nonzero(~kept)))
    stored = stored.keep_items(kept)
    if items is not None and len(items.ids):
        rows = _rows(stored.servable.item_ids, items.ids)
        added = int(np.count_nonzero(rows < 0))
        counts = replace(counts, added=added, updated=len(rows) - added)
        stored = _with_items(stored, items, rows)
    if not stored.servable.candidate_vectors.any():
        raise DataError("no item that can be retrieved would be left")
    if not len(stored.servable.user_ids):
        raise DataError("no user would be left, because every item of every history is removed")
    return stored, counts


def unknown_columns(stored: StoredTowers, items: Items) -> list[str]:
    """Return the columns in which no item has a value that the model knows."""
    encoder = stored.items.encoder
    return [
        column.name
        for column in encoder.columns
        if not replace(encoder, columns=(column,)).encode(items.table).nnz
    ]


def _rows(item_ids: NDArray[np.object_], ids: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the row of each of ``ids`` in ``item_ids``, or -1."""
    rows = pd.Index(item_ids, dtype=object).get_indexer(pd.Index(ids, dtype=object))
    return np.asarray(rows, np.int64)


def _with_items(stored: StoredTowers, items: Items, rows: NDArray[np.int64]) -> StoredTowers:
    """Return the catalogue with ``items`` put at ``rows``; those with row -1 are appended."""
    count, new = len(stored.titles), rows < 0
    targets = np.where(new, count + np.cumsum(new) - 1, rows)
    towers = stored.items.take(rows)
    candidates, history = towers.embed(towers.encoder.encode(items.table))

    # The old row of each row of the changed catalogue; -1 for appended rows.
    sources = np.concatenate([np.arange(count), np.full(np.count_nonzero(new), -1)])

    def put(values: Array, changed: Array, rows: NDArray[np.int64] = targets) -> Array:
        """Return the array of the changed catalogue, with ``changed`` at ``rows``."""
        taken = take_rows(values, sources)
        taken[rows] = changed
        return taken

    servable = stored.servable
    titles = put(stored.titles, items.ids[new], targets[new])
    titled = items.titles != None  # noqa: E711  (compares every element)
    titles[targets[titled]] = items.titles[titled]
    query, item_queries = servable.query, servable.item_queries
    if query.item_vectors is not None and history is not None:
        # Appended items get the log weight 0.
        query = replace(
            query,
            item_vectors=put(query.item_vectors, history),
            item_log_weights=take_rows(query.item_log_weights, sources),
        )
    if item_queries is not None:
        # Item queries that were trained on interactions are kept.
        untrained = ~towers.trained
        scaled = item_to_item.unit_length(candidates[untrained])
        item_queries = put(item_queries, scaled, targets[untrained])
    servable = replace(
        servable,
        item_ids=put(servable.item_ids, items.ids),
        popularity=take_rows(servable.popularity, sources),
        candidate_vectors=put(servable.candidate_vectors, candidates),
        query=query,
        item_queries=item_queries,
    )
    return replace(stored, servable=servable, titles=titles, items=stored.items.take(sources))
