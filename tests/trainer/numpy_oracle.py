"""A servable of small integers, so that dot products are exact, and its answers by NumPy."""

from typing import Any

import numpy as np
import tensorflow as tf

from trainer.artifact.servable import Servable
from trainer.data.histories import Histories
from trainer.index.exact import ExactIndex
from trainer.model.towers import query as query_tower
from trainer.model.towers.query import QueryWeights

DIM = 4
HISTORY_LENGTH = 5


class NumpyOracle:
    """Users ``u0``, ``u1``, ... and items ``i0``, ``i1``, ... with random vectors.

    User ``u<n>`` has a history of n items.
    """

    def __init__(
        self,
        users: int,
        items: int,
        seed: int,
        *,
        history: bool = True,
        user_vectors: bool = True,
        item_queries: bool = False,
    ) -> None:
        random = np.random.default_rng(seed)

        def vectors(count: int) -> np.ndarray:
            return random.integers(-4, 5, (count, DIM)).astype(np.float32)

        self.histories = [random.permutation(items)[:user].tolist() for user in range(users)]
        # Log weights of 0 give every item the weight 1, and exponent 0 makes pooling a sum.
        weights = QueryWeights(
            base=vectors(1)[0],
            item_vectors=vectors(items) if history else None,
            item_log_weights=np.zeros(items, np.float32),
            age_log_weights=np.zeros(query_tower.AGE_BUCKETS, np.float32),
            exponent=0.0,
            history_length=HISTORY_LENGTH,
            user_vectors=vectors(users) if user_vectors else None,
            normalize=False,
        )
        self.servable = Servable(
            query=weights,
            user_ids=np.array([f"u{user}" for user in range(users)], object),
            histories=_histories(self.histories),
            candidate_vectors=vectors(items),
            item_ids=np.array([f"i{item}" for item in range(items)], object),
            popularity=random.integers(0, 9, items).astype(np.float32),
            item_queries=vectors(items) if item_queries else None,
        )

    def signatures(self) -> dict[str, Any]:
        """Return the signatures of a model with an exact index."""
        index = ExactIndex(self.servable.candidate_vectors)
        return self.servable.module(index).signatures()

    def query_scores(self, user: int, recent: list[int]) -> tuple[np.ndarray, bool]:
        """Return the scores [N] for a user, -1 if unknown, and recent items, and ``known``."""
        servable, weights = self.servable, self.servable.query
        known_recent = [item for item in recent if 0 <= item < len(servable.item_ids)]
        known = user >= 0 or (bool(known_recent) and weights.item_vectors is not None)
        if not known:
            return servable.popularity, False
        query = weights.base.copy()
        if weights.item_vectors is not None:
            history = [*(self.histories[user] if user >= 0 else []), *known_recent]
            newest = list(dict.fromkeys(reversed(history)))[:HISTORY_LENGTH]
            query += weights.item_vectors[newest].sum(axis=0)
        if weights.user_vectors is not None and user >= 0:
            query += weights.user_vectors[user]
        return servable.candidate_vectors @ query, True

    def item_scores(self, item: int) -> tuple[np.ndarray, bool]:
        """Return the scores [N] for items similar to ``item``, and ``known``."""
        servable = self.servable
        if not 0 <= item < len(servable.item_ids):
            return np.full(len(servable.item_ids), -np.inf), False
        queries = servable.candidate_vectors
        if servable.item_queries is not None:
            queries = servable.item_queries
        scores = servable.candidate_vectors @ queries[item]
        scores[item] = -np.inf
        return scores, True

    def top(self, scores: np.ndarray, k: int, width: int) -> tuple[list[bytes], list[float]]:
        """Return ids and scores of the k best items, with filler up to ``width``."""
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])][:k]
        fillers = width - len(order)
        ids = [self.servable.item_ids[row].encode() for row in order] + [b""] * fillers
        return ids, [float(scores[row]) for row in order] + [-np.inf] * fillers


def history_tensor(rows: list[list[int]], width: int) -> tf.Tensor:
    """Return ids of items, string [B, width]; -1 becomes padding."""
    ids = ["" if item < 0 else f"i{item}" for row in rows for item in row[:width]]
    return tf.reshape(tf.constant(ids, tf.string), [len(rows), width])


def _histories(lists: list[list[int]]) -> Histories:
    offsets = np.cumsum([0, *map(len, lists)])
    return Histories(offsets, np.array([item for history in lists for item in history], np.int32))
