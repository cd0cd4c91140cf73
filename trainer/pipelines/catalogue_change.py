"""Adds, updates and removes items in a stored catalogue, and leaves all other items unchanged."""

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
    """The numbers of items that were added, updated with new features, and removed."""

    added: int = 0
    updated: int = 0
    removed: int = 0


def change(
    stored: StoredTowers, items: Items | None, removed: NDArray[np.object_]
) -> tuple[StoredTowers, Counts]:
    """Return a catalogue with some items added or updated and others removed.

    Args:
        stored: the stored catalogue, which is not modified.
        items: the items to add or update, with the model's feature columns, or None. An existing
            item keeps its id embedding and popularity, and gets the new features and, if given, the
            new title.
        removed: str objects, distinct, the ids of the items to remove. Unknown ids are ignored.

    Returns:
        The changed catalogue, and the numbers of changed items.

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
    """Return the catalogue with ``items`` in place of its ``rows``; row -1 appends an item."""
    count, is_new = len(stored.titles), rows < 0
    new_rows = np.where(is_new, count + np.cumsum(is_new) - 1, rows)
    towers = stored.items.take(rows)
    candidate_vectors, history_vectors = towers.embed(towers.encoder.encode(items.table))

    # The old row of each row of the new catalogue; -1 for appended rows.
    old_rows = np.concatenate([np.arange(count), np.full(np.count_nonzero(is_new), -1)])

    def updated(values: Array, item_values: Array, rows: NDArray[np.int64] = new_rows) -> Array:
        """Return an array for the new catalogue, with ``item_values`` at ``rows``."""
        taken = take_rows(values, old_rows)
        taken[rows] = item_values
        return taken

    servable = stored.servable
    titles = updated(stored.titles, items.ids[is_new], new_rows[is_new])
    has_title = pd.notna(items.titles)
    titles[new_rows[has_title]] = items.titles[has_title]
    query, item_queries = servable.query, servable.item_queries
    if query.item_vectors is not None and history_vectors is not None:
        query = replace(
            query,
            item_vectors=updated(query.item_vectors, history_vectors),
            # An appended item has the log weight 0.
            item_log_weights=take_rows(query.item_log_weights, old_rows),
        )
    if item_queries is not None:
        # Item queries that were trained on interactions are kept.
        untrained = ~towers.trained
        item_queries = updated(
            item_queries,
            item_to_item.unit_length(candidate_vectors[untrained]),
            new_rows[untrained],
        )
    servable = replace(
        servable,
        item_ids=updated(servable.item_ids, items.ids),
        popularity=take_rows(servable.popularity, old_rows),
        candidate_vectors=updated(servable.candidate_vectors, candidate_vectors),
        query=query,
        item_queries=item_queries,
    )
    return replace(stored, servable=servable, titles=titles, items=stored.items.take(old_rows))
