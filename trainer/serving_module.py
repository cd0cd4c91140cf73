"""The signatures: a query tower and an index as one module that can be saved."""

from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import (
    BY_ITEM,
    BY_USER,
    FILLER_ITEM_ID,
    ITEM_ID,
    KNOWN,
    MAX_K,
    SCORE,
    SERVING_DEFAULT,
    USER_ID,
    K,
)
from trainer.index.base import Index

Answer = dict[str, tf.Tensor]


class QueryTower(Protocol):
    """What export needs of a query tower: a trackable object that can be called."""

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """Vectors of ids: string [B] -> float32 [B, D]."""

    def known(self, ids: tf.Tensor) -> tf.Tensor:
        """Whether the tower has learnt each id: string [B] -> bool [B]."""


class RetrievalModule(tf.Module):
    """Answers for users and for items out of one index.

    Only ops of TensorFlow 2.11, so that older model servers load it.
    """

    def __init__(
        self,
        query_tower: QueryTower,
        index: Index,
        item_ids: NDArray[np.object_],
        popularity: NDArray[np.float32],
    ) -> None:
        """Put the parts together.

        Args:
            query_tower: embeds user ids.
            index: holds the candidate vectors, in the order of ``item_ids``.
            item_ids: str objects [N], distinct, none empty.
            popularity: float32 [N], the training interactions of every item: what
                unknown users get, most popular first.
        """
        super().__init__()
        self._query_tower = query_tower
        self._index = index
        self._item_ids = tf.Variable(list(item_ids), trainable=False, name="item_ids")
        self._item_rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                list(item_ids), np.arange(len(item_ids), dtype=np.int32)
            ),
            default_value=-1,
        )
        order = np.argsort(-popularity, kind="stable").astype(np.int32)
        self._popular_rows = tf.Variable(order, trainable=False, name="popular_rows")
        self._popular_scores = tf.Variable(
            popularity[order].astype(np.float32), trainable=False, name="popular_scores"
        )

    def signatures(self) -> dict[str, Any]:
        """The functions to save, by signature name."""
        k = tf.TensorSpec([None], tf.int32, name=K)
        by_user = tf.function(
            self._by_user, input_signature=[tf.TensorSpec([None], tf.string, name=USER_ID), k]
        )
        by_item = tf.function(
            self._by_item, input_signature=[tf.TensorSpec([None], tf.string, name=ITEM_ID), k]
        )
        return {BY_USER: by_user, SERVING_DEFAULT: by_user, BY_ITEM: by_item}

    def _by_user(self, user_id: tf.Tensor, k: tf.Tensor) -> Answer:
        width = _width(user_id, k)
        known = self._query_tower.known(user_id)
        rows, scores = self._index.search(self._query_tower(user_id), width)
        popular_rows, popular_scores = self._popular(width)
        rows = tf.where(known[:, None], rows, popular_rows)
        scores = tf.where(known[:, None], scores, popular_scores)
        return self._answer(rows, scores, known, k)

    def _by_item(self, item_id: tf.Tensor, k: tf.Tensor) -> Answer:
        width = _width(item_id, k)
        row = self._item_rows.lookup(item_id)
        known = row >= 0
        # One more than asked for, because the item finds itself.
        rows, scores = self._index.search(self._index.vectors(tf.maximum(row, 0)), width + 1)
        rows, scores = _without(rows, scores, row, width)
        rows = tf.where(known[:, None], rows, -1)
        return self._answer(rows, scores, known, k)

    def _popular(self, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The most popular items, [1, width]."""
        rows, scores = self._popular_rows[:width], self._popular_scores[:width]
        padding = [[0, width - tf.shape(rows)[0]]]
        return (
            tf.pad(rows, padding, constant_values=-1)[None, :],
            tf.pad(scores, padding, constant_values=float("-inf"))[None, :],
        )

    def _answer(self, rows: tf.Tensor, scores: tf.Tensor, known: tf.Tensor, k: tf.Tensor) -> Answer:
        """Names and scores; what is missing, and what is beyond a row's own k, is filled."""
        column = tf.range(tf.shape(rows)[1])[None, :]
        given = tf.logical_and(rows >= 0, column < k[:, None])
        ids = tf.gather(self._item_ids, tf.maximum(rows, 0))
        return {
            ITEM_ID: tf.where(given, ids, FILLER_ITEM_ID),
            SCORE: tf.where(given, scores, float("-inf")),
            KNOWN: known,
        }


def _width(ids: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    """The largest k of the batch, int32 scalar, checked: its failure is INVALID_ARGUMENT."""
    checks = [
        tf.debugging.assert_equal(
            tf.shape(ids), tf.shape(k), message="k must have one value for every id"
        ),
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
