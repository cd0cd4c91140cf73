"""Adds, updates and removes items of a stored catalogue. All other items stay as they are."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.artifact.servable import Servable
from trainer.artifact.stored_towers import StoredTowers
from trainer.data.files import Items
from trainer.errors import DataError
from trainer.model import item_to_item

Array = TypeVar("Array", bound=NDArray[np.generic])


@dataclass(frozen=True)
class Counts:
    """The numbers of items that a change added, updated and removed.

    Attributes:
        added: items that are new.
        updated: existing items that got new features.
        removed: existing items that were removed.
    """

    added: int = 0
    updated: int = 0
    removed: int = 0


def change(
    stored: StoredTowers, items: Items | None, removed: NDArray[np.object_]
) -> tuple[StoredTowers, Counts]:
    """Return a stored catalogue with ``items`` added or updated and ``removed`` items removed.

    An item that exists already keeps its trained vector and its popularity, and gets the new
    features and, if there is one, the new title. Removed ids that do not exist are ignored.

    Args:
        stored: the catalogue.
        items: the items to add or update, with the model's feature columns; None for none.
        removed: the ids of the items to remove, distinct str objects.

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
    item_ids = _take(stored.servable.item_ids, sources)
    item_ids[targets] = items.ids
    titles = _take(stored.titles, sources)
    titles[targets[new]] = items.ids[new]
    titled = items.titles != None  # noqa: E711  (compares every element)
    titles[targets[titled]] = items.titles[titled]
    servable = replace(
        stored.servable,
        item_ids=item_ids,
        popularity=_take(stored.servable.popularity, sources),
        candidate_vectors=_put(stored.servable.candidate_vectors, sources, targets, candidates),
    )
    servable = _with_history_vectors(servable, sources, targets, history)
    if servable.item_queries is not None:
        # Item queries that were trained on interactions are kept.
        untrained = ~towers.trained
        queries = item_to_item.untrained(candidates[untrained])
        servable = replace(
            servable,
            item_queries=_put(servable.item_queries, sources, targets[untrained], queries),
        )
    return replace(stored, servable=servable, titles=titles, items=stored.items.take(sources))


def _with_history_vectors(
    servable: Servable,
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    vectors: NDArray[np.float32] | None,
) -> Servable:
    """Put the item vectors of the query tower at ``targets``. Appended items get log weight 0."""
    query = servable.query
    if query.item_vectors is None or vectors is None:
        return servable
    return replace(
        servable,
        query=replace(
            query,
            item_vectors=_put(query.item_vectors, sources, targets, vectors),
            item_log_weights=_take(query.item_log_weights, sources),
        ),
    )


def _put(
    values: NDArray[np.float32],
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    new: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return a copy of the rows ``sources``, in which the rows ``targets`` are ``new``."""
    taken = _take(values, sources)
    taken[targets] = new
    return taken


def _take(values: Array, sources: NDArray[np.int64]) -> Array:
    """Return a copy of the rows ``sources``; row -1 gives zeros."""
    taken: Array = np.zeros((len(sources), *values.shape[1:]), values.dtype)  # type: ignore[assignment]
    taken[sources >= 0] = values[sources[sources >= 0]]
    return taken
