"""The signatures of a SavedModel, which return item ids and scores for a batch of queries.

:mod:`serving_contract` documents the inputs and outputs of all signatures. The modules use only
TensorFlow 2.11 ops, so that older model servers can load them.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import serving_contract as contract
from trainer.artifact.ids import IdTable
from trainer.artifact.query_module import QueryModule
from trainer.index.base import Index, pad_results

Answer = dict[str, tf.Tensor]

_K = tf.TensorSpec([None], tf.int32, name=contract.K)


class VectorModule(tf.Module):
    """A module with the signatures ``by_vector`` and ``by_item``."""

    def __init__(
        self, index: Index, items: IdTable, item_queries: NDArray[np.float32] | None = None
    ) -> None:
        """Create the module.

        Args:
            index: an index of N candidate vectors.
            items: the ids of the N items, in the order of the candidate vectors.
            item_queries: float32 [N, D], the query vector that finds items similar to each item;
                None uses the candidate vectors.
        """
        super().__init__()
        self._index = index
        self._items = items
        self._item_queries = None
        if item_queries is not None:
            self._item_queries = tf.Variable(item_queries, trainable=False, name="item_queries")

    def signatures(self) -> dict[str, Any]:
        """Return the functions to save, by signature name."""
        item_id = tf.TensorSpec([None], tf.string, name=contract.ITEM_ID)
        vector = tf.TensorSpec([None, self._index.dim], tf.float32, name=contract.VECTOR)
        return {
            contract.BY_ITEM: tf.function(self._by_item, input_signature=[item_id, _K]),
            contract.BY_VECTOR: tf.function(self._by_vector, input_signature=[vector, _K]),
        }

    def _by_item(self, item_id: tf.Tensor, k: tf.Tensor) -> Answer:
        width = _validated_width([item_id], k)
        item = self._items.rows(item_id)
        known = item >= 0
        row = tf.maximum(item, 0)
        queries = (
            self._index.vectors(row)
            if self._item_queries is None
            else tf.gather(self._item_queries, row)
        )
        # Search for one more result, because the query item itself is removed from the results.
        rows, scores = self._index.search(queries, width + 1)
        rows, scores = _remove_item(rows, scores, item, width)
        rows = tf.where(known[:, None], rows, -1)
        return self._answer(rows, scores, known, k)

    def _by_vector(self, vector: tf.Tensor, k: tf.Tensor) -> Answer:
        width = _validated_width([vector], k)
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(
                    tf.shape(vector)[1], self._index.dim, message="vector has the wrong length"
                ),
                tf.debugging.assert_all_finite(vector, "vector is not finite"),
                width,
            ]
        ):
            rows, scores = self._index.search(tf.identity(vector), width)
        return self._answer(rows, scores, tf.ones_like(k, tf.bool), k)

    def _answer(self, rows: tf.Tensor, scores: tf.Tensor, known: tf.Tensor, k: tf.Tensor) -> Answer:
        """Return the outputs, with filler in place of missing results and of results beyond k."""
        column = tf.range(tf.shape(rows)[1])[None, :]
        valid = tf.logical_and(rows >= 0, column < k[:, None])
        return {
            contract.ITEM_ID: tf.where(valid, self._items.ids(rows), contract.FILLER_ITEM_ID),
            contract.SCORE: tf.where(valid, scores, float("-inf")),
            contract.KNOWN: known,
        }


class RetrievalModule(VectorModule):
    """A module with all signatures, including those for queries by user and by history.

    The answer to an unknown query contains the most popular items.
    """

    def __init__(
        self,
        queries: QueryModule,
        index: Index,
        items: IdTable,
        popularity: NDArray[np.float32],
        item_queries: NDArray[np.float32] | None = None,
    ) -> None:
        """Create the module.

        Args:
            queries: the query tower.
            index: an index of N candidate vectors.
            items: the ids of the N items, in the order of the candidate vectors.
            popularity: float32 [N], the scores of the items for unknown queries.
            item_queries: see :class:`VectorModule`.
        """
        super().__init__(index, items, item_queries)
        self._queries = queries
        order = np.argsort(-popularity, kind="stable").astype(np.int32)
        self._popular_rows = tf.Variable(order, trainable=False, name="popular_rows")
        self._popular_scores = tf.Variable(
            popularity[order].astype(np.float32), trainable=False, name="popular_scores"
        )

    def signatures(self) -> dict[str, Any]:
        """Return the functions to save, by signature name."""
        user_id = tf.TensorSpec([None], tf.string, name=contract.USER_ID)
        history = tf.TensorSpec([None, None], tf.string, name=contract.HISTORY)
        by_user = tf.function(self._by_user, input_signature=[user_id, _K])
        return {
            **super().signatures(),
            contract.BY_USER: by_user,
            contract.SERVING_DEFAULT: by_user,
            contract.BY_HISTORY: tf.function(self._by_history, input_signature=[history, _K]),
            contract.BY_USER_AND_HISTORY: tf.function(
                self._by_user_and_history, input_signature=[user_id, history, _K]
            ),
        }

    def _by_user(self, user_id: tf.Tensor, k: tf.Tensor) -> Answer:
        return self._by_query(user_id, None, k)

    def _by_history(self, history: tf.Tensor, k: tf.Tensor) -> Answer:
        return self._by_query(None, history, k)

    def _by_user_and_history(self, user_id: tf.Tensor, history: tf.Tensor, k: tf.Tensor) -> Answer:
        return self._by_query(user_id, history, k)

    def _by_query(
        self, user_id: tf.Tensor | None, history: tf.Tensor | None, k: tf.Tensor
    ) -> Answer:
        inputs = [tensor for tensor in (user_id, history) if tensor is not None]
        width = _validated_width(inputs, k)
        with tf.control_dependencies([width]):
            queries, known = self._queries.embed(user_id, history)
        rows, scores = self._index.search(queries, width)
        popular_rows, popular_scores = self._popular(width)
        rows = tf.where(known[:, None], rows, popular_rows)
        scores = tf.where(known[:, None], scores, popular_scores)
        return self._answer(rows, scores, known, k)

    def _popular(self, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the rows int32 [1, width] and scores float32 [1, width] of the popular items."""
        rows, scores = self._popular_rows[None, :width], self._popular_scores[None, :width]
        return pad_results(rows, scores, width)


def _validated_width(inputs: list[tf.Tensor], k: tf.Tensor) -> tf.Tensor:
    """Check ``k`` and return the largest of its values, an int32 scalar; 0 for an empty batch.

    If a check fails, the model server returns INVALID_ARGUMENT.
    """
    one_per_row = "k must have one value for every row"
    checks = [
        *(tf.debugging.assert_equal(tf.shape(rows)[0], tf.size(k), one_per_row) for rows in inputs),
        tf.debugging.assert_rank(k, 1, one_per_row),
        tf.debugging.assert_non_negative(k, message="k must not be negative"),
        tf.debugging.assert_less_equal(
            k, contract.MAX_K, message=f"k must be at most {contract.MAX_K}"
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.reduce_max(tf.concat([k, [0]], axis=0))


def _remove_item(
    rows: tf.Tensor, scores: tf.Tensor, item: tf.Tensor, width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Remove each query's own item from its results: [B, width + 1] -> [B, width].

    Args:
        rows: int32 [B, width + 1], the rows that were found.
        scores: float32 [B, width + 1].
        item: int32 [B], the row of each query's item; -1 for an unknown item.
        width: int32 scalar.
    """
    # Filler also has row -1, so an unknown item, whose row is -1, must not match.
    is_item = tf.logical_and(rows == item[:, None], item[:, None] >= 0)
    # Every result after the removed item moves one column to the left.
    shift = tf.cumsum(tf.cast(is_item, tf.int32), axis=1)[:, :width]
    column = tf.range(width)[None, :] + shift
    return tf.gather(rows, column, batch_dims=1), tf.gather(scores, column, batch_dims=1)
