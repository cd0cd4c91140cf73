"""The signatures: queries and an index as one module that can be saved."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import (
    BY_HISTORY,
    BY_ITEM,
    BY_USER,
    BY_USER_AND_HISTORY,
    BY_VECTOR,
    FILLER_ITEM_ID,
    HISTORY,
    ITEM_ID,
    KNOWN,
    MAX_K,
    SCORE,
    SERVING_DEFAULT,
    USER_ID,
    VECTOR,
    K,
)
from trainer.artifact.ids import Ids
from trainer.artifact.query_module import QueryModule
from trainer.index.base import Index

Answer = dict[str, tf.Tensor]

_K = tf.TensorSpec([None], tf.int32, name=K)


class VectorModule(tf.Module):
    """Answers for vectors and items out of one index.

    Only ops of TensorFlow 2.11, so that older model servers load it.
    """

    def __init__(
        self, index: Index, items: Ids, item_queries: NDArray[np.float32] | None = None
    ) -> None:
        """Put the parts together.

        Args:
            index: holds the candidate vectors, in the order of ``items``.
            items: the ids of the catalogue.
            item_queries: float32 [N, D], what to search with for items similar to each;
                without it, each item's own candidate vector.
        """
        super().__init__()
        self._index = index
        self._items = items
        self._item_queries = None
        if item_queries is not None:
            self._item_queries = tf.Variable(item_queries, trainable=False, name="item_queries")

    def signatures(self) -> dict[str, Any]:
        """The functions to save, by signature name."""
        item_id = tf.TensorSpec([None], tf.string, name=ITEM_ID)
        vector = tf.TensorSpec([None, self._index.dim], tf.float32, name=VECTOR)
        return {
            BY_ITEM: tf.function(self._by_item, input_signature=[item_id, _K]),
            BY_VECTOR: tf.function(self._by_vector, input_signature=[vector, _K]),
        }

    def _by_item(self, item_id: tf.Tensor, k: tf.Tensor) -> Answer:
        width = _width([item_id], k)
        row = self._items.rows(item_id)
        known = row >= 0
        place = tf.maximum(row, 0)
        vectors = (
            self._index.vectors(place)
            if self._item_queries is None
            else tf.gather(self._item_queries, place)
        )
        # One more than asked for, because the item may find itself.
        rows, scores = self._index.search(vectors, width + 1)
        rows, scores = _without(rows, scores, row, width)
        rows = tf.where(known[:, None], rows, -1)
        return self._answer(rows, scores, known, k)

    def _by_vector(self, vector: tf.Tensor, k: tf.Tensor) -> Answer:
        width = _width([vector], k)
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(
                    tf.shape(vector)[1], self._index.dim, message="vector has another length"
                ),
                tf.debugging.assert_all_finite(vector, "vector is not finite"),
                width,
            ]
        ):
            rows, scores = self._index.search(tf.identity(vector), width)
        return self._answer(rows, scores, tf.ones_like(k, tf.bool), k)

    def _answer(self, rows: tf.Tensor, scores: tf.Tensor, known: tf.Tensor, k: tf.Tensor) -> Answer:
        """Names and scores; what is missing, and what is beyond a row's own k, is filled."""
        column = tf.range(tf.shape(rows)[1])[None, :]
        given = tf.logical_and(rows >= 0, column < k[:, None])
        ids = self._items.names(rows)
        return {
            ITEM_ID: tf.where(given, ids, FILLER_ITEM_ID),
            SCORE: tf.where(given, scores, float("-inf")),
            KNOWN: known,
        }


class RetrievalModule(VectorModule):
    """Answers for users and histories too."""

    def __init__(
        self,
        queries: QueryModule,
        index: Index,
        items: Ids,
        popularity: NDArray[np.float32],
        item_queries: NDArray[np.float32] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            queries: embeds users and histories.
            index: holds the candidate vectors, in the order of ``items``.
            items: the ids of the catalogue.
            popularity: float32 [N], the training interactions of every item: what
                unknown users get, most popular first.
            item_queries: as in the base class.
        """
        super().__init__(index, items, item_queries)
        self._queries = queries
        order = np.argsort(-popularity, kind="stable").astype(np.int32)
        self._popular_rows = tf.Variable(order, trainable=False, name="popular_rows")
        self._popular_scores = tf.Variable(
            popularity[order].astype(np.float32), trainable=False, name="popular_scores"
        )

    def signatures(self) -> dict[str, Any]:
        """The functions to save, by signature name."""
        user_id = tf.TensorSpec([None], tf.string, name=USER_ID)
        history = tf.TensorSpec([None, None], tf.string, name=HISTORY)
        by_user = tf.function(self._by_user, input_signature=[user_id, _K])
        return {
            **super().signatures(),
            BY_USER: by_user,
            SERVING_DEFAULT: by_user,
            BY_HISTORY: tf.function(self._by_history, input_signature=[history, _K]),
            BY_USER_AND_HISTORY: tf.function(
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
        width = _width([one for one in (user_id, history) if one is not None], k)
        with tf.control_dependencies([width]):
            vectors, known = self._queries.embed(user_id, history)
        rows, scores = self._index.search(vectors, width)
        popular_rows, popular_scores = self._popular(width)
        rows = tf.where(known[:, None], rows, popular_rows)
        scores = tf.where(known[:, None], scores, popular_scores)
        return self._answer(rows, scores, known, k)

    def _popular(self, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The most popular items, [1, width]."""
        rows, scores = self._popular_rows[:width], self._popular_scores[:width]
        padding = [[0, width - tf.shape(rows)[0]]]
        return (
            tf.pad(rows, padding, constant_values=-1)[None, :],
            tf.pad(scores, padding, constant_values=float("-inf"))[None, :],
        )


def _width(inputs: list[tf.Tensor], k: tf.Tensor) -> tf.Tensor:
    """The largest k of the batch, int32 scalar, checked: its failure is INVALID_ARGUMENT."""
    checks = [
        *(
            tf.debugging.assert_equal(
                tf.shape(one)[0], tf.size(k), message="k must have one value for every row"
            )
            for one in inputs
        ),
        tf.debugging.assert_rank(k, 1, message="k must have one value for every row"),
        tf.debugging.assert_non_negative(k, message="k must not be negative"),
        tf.debugging.assert_less_equal(k, MAX_K, message=f"k must be at most {MAX_K}"),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.reduce_max(tf.concat([k, [0]], axis=0))


def _without(
    rows: tf.Tensor, scores: tf.Tensor, row: tf.Tensor, width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Leave ``row`` [B] out of ``rows`` [B, width + 1]: what follows it moves up."""
    # An unknown item, row -1, must not be taken for filler.
    itself = tf.logical_and(rows == row[:, None], row[:, None] >= 0)
    passed = tf.cumsum(tf.cast(itself, tf.int32), axis=1)[:, :width]
    column = tf.range(width)[None, :] + passed
    return tf.gather(rows, column, batch_dims=1), tf.gather(scores, column, batch_dims=1)
