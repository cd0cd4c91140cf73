"""The data from which a model answers requests: query tower, candidate vectors and ids."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import serving_contract as contract
from trainer.artifact.ids import IdTable
from trainer.artifact.query_module import QueryModule
from trainer.artifact.signatures import RetrievalModule, VectorModule
from trainer.data.histories import Histories
from trainer.index.base import Index
from trainer.model.towers.query import QueryWeights

_EXAMPLES = 32
_EXAMPLE_HISTORY_LENGTH = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class VectorServable:
    """A catalogue of N items with candidate vectors of D dimensions, computed by any model.

    Attributes:
        candidate_vectors: float32 [N, D].
        item_ids: str objects or UTF-8 bytes [N], distinct.
        item_queries: float32 [N, D], the query vector that finds items similar to each item; None
            uses the candidate vectors.
    """

    candidate_vectors: NDArray[np.float32]
    item_ids: NDArray[np.object_] | NDArray[np.bytes_]
    item_queries: NDArray[np.float32] | None = None

    def module(self, index: Index) -> VectorModule:
        """Return the module to save, with an index of ``candidate_vectors``."""
        return VectorModule(index, IdTable(self.item_ids, "item_ids"), self.item_queries)

    def examples(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return example inputs by signature and input name, without ``k``.

        Each array has up to 32 rows. The model knows all ids in the arrays.
        """
        return {
            contract.BY_ITEM: {contract.ITEM_ID: self.item_ids[:_EXAMPLES].astype(object)},
            contract.BY_VECTOR: {contract.VECTOR: self.candidate_vectors[:_EXAMPLES]},
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Servable(VectorServable):
    """A trained two-tower model of N items and U users.

    Attributes:
        item_ids: str objects [N], distinct.
        query: the weights of the query tower, with user vectors in the order of ``user_ids``.
        user_ids: str objects [U], distinct, the known users.
        histories: the histories of the known users, in the order of ``user_ids``.
        popularity: float32 [N], the number of training interactions of each item.
    """

    item_ids: NDArray[np.object_]
    query: QueryWeights
    user_ids: NDArray[np.object_]
    histories: Histories
    popularity: NDArray[np.float32]

    def module(self, index: Index) -> RetrievalModule:
        """Return the module to save, with an index of ``candidate_vectors``."""
        items = IdTable(self.item_ids, "item_ids")
        queries = QueryModule(self.query, self.user_ids, self.histories, items)
        return RetrievalModule(queries, index, items, self.popularity, self.item_queries)

    def examples(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return example inputs by signature and input name, without ``k``."""
        users = self.user_ids[:_EXAMPLES]
        histories = np.resize(self.item_ids[:_EXAMPLES], (_EXAMPLES, _EXAMPLE_HISTORY_LENGTH))
        return {
            **super().examples(),
            contract.BY_USER: {contract.USER_ID: users},
            contract.SERVING_DEFAULT: {contract.USER_ID: users},
            contract.BY_HISTORY: {contract.HISTORY: histories},
            contract.BY_USER_AND_HISTORY: {
                contract.USER_ID: np.resize(users, _EXAMPLES),
                contract.HISTORY: histories,
            },
        }


def retrievable_items(servable: Servable) -> NDArray[np.bool_]:
    """Return the mask of the items that the models can recommend, bool [N].

    An item without training rows and without features that the model knows has a zero vector. With
    a score of 0, it would rank above all items with negative scores, so the models leave it out.
    """
    return np.asarray(servable.candidate_vectors.any(axis=1))


def left_out_notice(retrievable: NDArray[np.bool_]) -> str | None:
    """Return a message with the number of items that are not ``retrievable``, or None."""
    count = int(np.count_nonzero(~retrievable))
    if not count:
        return None
    return (
        f"Left out of the models: {count:,} {'item' if count == 1 else 'items'} without training "
        f"rows and without features that the model knows"
    )


def keep_items(servable: Servable, kept: NDArray[np.bool_]) -> Servable:
    """Return the servable with only the items in the mask ``kept``, bool [N].

    All other items are also removed from the histories. A user whose history becomes empty is
    removed, unless the model has a vector for the user.
    """
    if kept.all():
        return servable
    remaining = servable.histories.keep(kept[servable.histories.items])
    new_row = (np.cumsum(kept) - 1).astype(np.int32)
    histories = Histories(remaining.offsets, new_row[remaining.items], remaining.ratings)
    query = servable.query
    if query.item_vectors is not None:
        query = replace(
            query,
            item_vectors=query.item_vectors[kept],
            item_log_weights=query.item_log_weights[kept],
        )
    users = np.arange(len(servable.user_ids))
    if query.user_vectors is None:
        users = np.flatnonzero((histories.lengths > 0) | (servable.histories.lengths == 0))
    return replace(
        servable,
        query=query,
        user_ids=servable.user_ids[users],
        histories=histories.take(users),
        candidate_vectors=servable.candidate_vectors[kept],
        item_ids=servable.item_ids[kept],
        popularity=servable.popularity[kept],
        item_queries=None if servable.item_queries is None else servable.item_queries[kept],
    )
