"""Changes a stored catalogue: items come, change and go; all others stay as they are."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.artifact.servable import Servable
from trainer.artifact.stored_towers import StoredTowers
from trainer.data.files import Items
from trainer.data.types import DataError
from trainer.model import item_to_item

Array = TypeVar("Array", bound=NDArray[np.generic])


@dataclass(frozen=True)
class Counts:
    """What was changed.

    Attributes:
        added: items that are new.
        updated: items that were there and have new features.
        removed: items that are gone.
    """

    added: int = 0
    updated: int = 0
    removed: int = 0


def change(
    stored: StoredTowers, given: Items | None, removed: NDArray[np.object_]
) -> tuple[StoredTowers, Counts]:
    """A stored catalogue with the ``given`` items, and without the ``removed`` ones.

    A given item that is there already keeps what its training rows taught, and its place among
    the popular; its features are those given, its title too where there is one. A removed id
    that is not there is not looked at.

    Args:
        stored: the catalogue.
        given: new items and known ones; its table has the columns that are read as features.
        removed: str objects, distinct.

    Raises:
        DataError: an item is both given and removed, or nothing is left.
    """
    ids = pd.Index(removed, dtype=object)
    if given is not None and (both := ids.intersection(pd.Index(given.ids, dtype=object))).size:
        raise DataError(f"item {both[0]!r} is to be removed, and given as well")
    gone = _rows(stored.servable.item_ids, removed)
    kept = np.ones(len(stored.titles), np.bool_)
    kept[gone[gone >= 0]] = False
    counts = Counts(removed=int(np.count_nonzero(~kept)))
    stored = stored.keep_items(kept)
    if given is not None and len(given.ids):
        rows = _rows(stored.servable.item_ids, given.ids)
        added = int(np.count_nonzero(rows < 0))
        counts = replace(counts, added=added, updated=len(rows) - added)
        stored = _with(stored, given, rows)
    if not stored.servable.candidate_vectors.any():
        raise DataError("no item would be left that can be retrieved")
    if not len(stored.servable.user_ids):
        raise DataError("no user would be left: every item of every history is to be removed")
    return stored, counts


def unread(stored: StoredTowers, given: Items) -> list[str]:
    """The columns in which no given item has a value that the model knows."""
    return [
        column.name
        for column in stored.items.encoder.columns
        if not replace(stored.items.encoder, columns=(column,)).encode(given.table).nnz
    ]


def _rows(item_ids: NDArray[np.object_], ids: NDArray[np.object_]) -> NDArray[np.int64]:
    """Where each of ``ids`` is in ``item_ids``, int64; -1 for those that are not."""
    found = pd.Index(item_ids, dtype=object).get_indexer(pd.Index(ids, dtype=object))
    return np.asarray(found, np.int64)


def _with(stored: StoredTowers, given: Items, rows: NDArray[np.int64]) -> StoredTowers:
    """The catalogue with new values in ``rows`` of ``given``, and at its end where that is -1."""
    count, new = len(stored.titles), rows < 0
    place = np.where(new, count + np.cumsum(new) - 1, rows)
    towers = stored.items.take(rows)
    candidates, history = towers.embed(towers.encoder.encode(given.table))

    # Of the whole catalogue, then as many more.
    every = np.concatenate([np.arange(count), np.full(np.count_nonzero(new), -1)])
    item_ids = _grown(stored.servable.item_ids, every)
    item_ids[place] = given.ids
    titles = _grown(stored.titles, every)
    titles[place[new]] = given.ids[new]
    titled = given.titles != None  # noqa: E711  (of each)
    titles[place[titled]] = given.titles[titled]
    servable = replace(
        stored.servable,
        item_ids=item_ids,
        popularity=_grown(stored.servable.popularity, every),
        candidate_vectors=_put(stored.servable.candidate_vectors, every, place, candidates),
    )
    servable = _with_history(servable, every, place, history)
    if servable.item_queries is not None:
        # What was learnt from what users did next stays.
        own = ~towers.trained
        servable = replace(
            servable,
            item_queries=_put(
                servable.item_queries, every, place[own], item_to_item.untrained(candidates[own])
            ),
        )
    return replace(stored, servable=servable, titles=titles, items=stored.items.take(every))


def _with_history(
    servable: Servable,
    every: NDArray[np.int64],
    place: NDArray[np.int64],
    vectors: NDArray[np.float32] | None,
) -> Servable:
    """The query tower's side; a new item weighs as much as one that training never met."""
    query = servable.query
    if query.item_vectors is None or vectors is None:
        return servable
    return replace(
        servable,
        query=replace(
            query,
            item_vectors=_put(query.item_vectors, every, place, vectors),
            item_log_weights=_grown(query.item_log_weights, every),
        ),
    )


def _put(
    values: NDArray[np.float32],
    every: NDArray[np.int64],
    place: NDArray[np.int64],
    new: NDArray[np.float32],
) -> NDArray[np.float32]:
    grown = _grown(values, every)
    grown[place] = new
    return grown


def _grown(values: Array, every: NDArray[np.int64]) -> Array:
    """A copy with ``every`` of the rows; zeros, or nothing, where that is -1."""
    grown: Array = np.zeros((len(every), *values.shape[1:]), values.dtype)  # type: ignore[assignment]
    grown[every >= 0] = values[every[every >= 0]]
    return grown
