"""The query tower inside a SavedModel: embeds known users, and histories from requests."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.artifact.ids import IdTable
from trainer.data.histories import Histories
from trainer.model.towers.query import QueryWeights, age_buckets_tf, pool


class QueryModule(tf.Module):
    """A trained query tower, with the stored histories of the U known users.

    The module uses only TensorFlow 2.11 ops, so that older model servers can load it.
    """

    def __init__(
        self,
        weights: QueryWeights,
        user_ids: NDArray[np.object_],
        histories: Histories,
        items: IdTable,
    ) -> None:
        """Create the module.

        Args:
            weights: the tower's weights, with ``user_vectors`` in the order of ``user_ids``.
            user_ids: str objects [U], the ids of the known users.
            histories: the users' histories, in the order of ``user_ids``.
            items: the item ids, in the order of ``weights.item_vectors``.
        """
        super().__init__()
        self._users = IdTable(user_ids, "user_ids")
        self._items = items
        self._base = _variable(weights.base)
        self._user_vectors = None
        if weights.user_vectors is not None:
            self._user_vectors = _variable(weights.user_vectors)
        self._uses_history = weights.item_vectors is not None
        if weights.item_vectors is not None:
            newest = histories.newest(weights.history_length)
            self._offsets = _variable(newest.offsets.astype(np.int32))
            self._history_items = _variable(newest.items)
            self._item_vectors = _variable(weights.item_vectors)
            self._item_log_weights = _variable(weights.item_log_weights)
            self._age_log_weights = _variable(weights.age_log_weights)
        self._exponent = weights.exponent
        self._history_length = weights.history_length
        self._normalize = weights.normalize

    def embed(
        self, user_id: tf.Tensor | None, history: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Embed queries by user, by history, or by both.

        Args:
            user_id: string [B]; None for queries without a user.
            history: string [B, H], ids of the user's newest items, the newest last. These items are
                appended to the stored history. "" and unknown ids are ignored. None for queries
                without a history.

        Returns:
            Query vectors, float32 [B, D], and ``known``, bool [B]. A query is known if the user is
            known, or if the tower uses histories and an item in ``history`` is known.
        """
        batch = tf.shape(history if user_id is None else user_id)[0]
        users = tf.fill([batch], -1) if user_id is None else self._users.rows(user_id)
        known = users >= 0
        queries = tf.tile(self._base[None, :], [batch, 1])
        if self._uses_history:
            recent = None if history is None else self._items.rows(history)
            queries += self._pooled(users, recent, batch)
            if recent is not None:
                known = tf.logical_or(known, tf.reduce_any(recent >= 0, axis=1))
        if self._user_vectors is not None:
            user_vectors = tf.gather(self._user_vectors, tf.maximum(users, 0))
            queries += tf.where(users[:, None] >= 0, user_vectors, 0.0)
        return tf.math.l2_normalize(queries, axis=-1) if self._normalize else queries, known

    def _pooled(self, users: tf.Tensor, recent: tf.Tensor | None, batch: tf.Tensor) -> tf.Tensor:
        """Pool stored histories and recent items, int32 [B, H], into vectors, float32 [B, D]."""
        histories = self._stored(users)
        if recent is not None:
            histories = tf.concat([histories, tf.ragged.boolean_mask(recent, recent >= 0)], axis=1)
            histories = _keep_last_occurrences(histories, self._item_vectors.shape[0])
        items, rows = histories.values, tf.cast(histories.value_rowids(), tf.int32)
        ends = tf.cast(tf.gather(histories.row_splits, rows + 1), tf.int32)
        ages = ends - 1 - tf.range(tf.size(items))
        log_weights = tf.gather(self._item_log_weights, items) + tf.gather(
            self._age_log_weights, age_buckets_tf(ages)
        )
        log_weights = tf.where(ages < self._history_length, log_weights, float("-inf"))
        vectors = tf.gather(self._item_vectors, items)
        return pool(vectors, log_weights, rows, batch, self._exponent)

    def _stored(self, users: tf.Tensor) -> tf.RaggedTensor:
        """Return users' stored histories: int32 [B] -> ragged int32 [B, any]; empty for row -1."""
        row = tf.maximum(users, 0)
        starts = tf.gather(self._offsets, row)
        ends = tf.where(users >= 0, tf.gather(self._offsets, row + 1), starts)
        positions = tf.ragged.range(starts, ends, row_splits_dtype=tf.int64)
        return positions.with_values(tf.gather(self._history_items, positions.values))


def _keep_last_occurrences(histories: tf.RaggedTensor, items: int) -> tf.RaggedTensor:
    """Remove repeated items from each row of ``histories``, except for the last occurrence.

    Args:
        histories: ragged int32 [B, any], rows of item numbers.
        items: the number of items in the catalogue, which is greater than every item number.
    """
    values = histories.values
    # Number the distinct pairs of row and item, and find the last position of each pair.
    _, pair = tf.unique(histories.value_rowids() * items + tf.cast(values, tf.int64))
    position = tf.range(tf.size(values))
    last = tf.gather(tf.math.unsorted_segment_max(position, pair, tf.size(values)), pair)
    return tf.ragged.boolean_mask(histories, histories.with_values(last == position))


def _variable(values: NDArray[np.generic]) -> tf.Variable:
    # Variables are not part of the graph, which is limited to 2 GB; constants are.
    return tf.Variable(values, trainable=False)
