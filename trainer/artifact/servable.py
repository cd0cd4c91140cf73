"""Everything a model answers from: query tower, candidate vectors, ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_contract import (
    BY_HISTORY,
    BY_ITEM,
    BY_USER,
    BY_USER_AND_HISTORY,
    BY_VECTOR,
    HISTORY,
    ITEM_ID,
    SERVING_DEFAULT,
    USER_ID,
    VECTOR,
)
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
    """A catalogue of N candidate vectors of D dimensions, made by any model.

    Attributes:
        candidate_vectors: float32 [N, D].
        item_ids: str objects or UTF-8 bytes [N], distinct.
        item_queries: float32 [N, D], the query vector for items similar to each item. None: each
            item's own candidate vector.
    """

    candidate_vectors: NDArray[np.float32]
    item_ids: NDArray[np.object_] | NDArray[np.bytes_]
    item_queries: NDArray[np.float32] | None = None

    def module(self, index: Index) -> VectorModule:
        """Return the module to save, with an index of ``candidate_vectors``."""
        return VectorModule(index, IdTable(self.item_ids, "item_ids"), self.item_queries)

    def examples(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return example inputs of every signature, by signature and input name.

        Each array has up to 32 rows, all of known ids. ``k`` is not included.
        """
        return {
            BY_ITEM: {ITEM_ID: self.item_ids[:_EXAMPLES].astype(object)},
            BY_VECTOR: {VECTOR: self.candidate_vectors[:_EXAMPLES]},
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Servable(VectorServable):
    """A trained two-tower model of N items and U users.

    Attributes:
        item_ids: str objects [N], distinct.
        query: weights of the query tower; user vectors are in the order of ``user_ids``.
        user_ids: str objects [U], distinct, the known users.
        histories: items of the known users, in the order of ``user_ids``.
        popularity: float32 [N], number of training interactions of each item.
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
        """Return example inputs of every signature, as the base class does."""
        users = self.user_ids[:_EXAMPLES]
        histories = np.resize(self.item_ids[:_EXAMPLES], (_EXAMPLES, _EXAMPLE_HISTORY_LENGTH))
        return {
            **super().examples(),
            BY_USER: {USER_ID: users},
            SERVING_DEFAULT: {USER_ID: users},
            BY_HISTORY: {HISTORY: histories},
            BY_USER_AND_HISTORY: {USER_ID: np.resize(users, _EXAMPLES), HISTORY: histories},
        }
