"""Query vectors inside a SavedModel: of known users, and of histories that are sent along."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.artifact.ids import Ids
from trainer.data.histories import Histories
from trainer.model.towers import pooling
from trainer.model.towers.query import QueryWeights


class QueryModule(tf.Module):
    """A trained query tower with the histories of the users that it knows.

    Only ops of TensorFlow 2.11, so that older model servers load it.
    """

    def __init__(
        self,
        weights: QueryWeights,
        user_ids: NDArray[np.object_],
        histories: Histories,
        items: Ids,
    ) -> None:
        """Put the parts together.

        Args:
            weights: of the query tower; its user vectors are in the order of ``user_ids``.
            user_ids: str objects [U], distinct, the known users.
            histories: of these U users.
            items: the ids of the catalogue.
        """
        super().__init__()
        self._users = Ids(user_ids, "user_ids")
        self._items = items
        self._base = _constant(weights.base)
        self._user_vectors = None
        if weights.user_vectors is not None:
            self._user_vectors = _constant(weights.user_vectors)
        self._uses_history = weights.item_vectors is not None
        if weights.item_vectors is not None:
            newest = histories.newest(weights.history_length)
            self._offsets = _constant(newest.offsets.astype(np.int32))
            self._history_items = _constant(newest.items)
            self._item_vectors = _constant(weights.item_vectors)
            self._item_log_weights = _constant(weights.item_log_weights)
            self._age_log_weights = _constant(weights.age_log_weights)
        self._exponent = weights.exponent
        self._history_length = weights.history_length
        self._normalize = weights.normalize

    def embed(
        self, user_id: tf.Tensor | None, history: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Query vectors, and whether anything is known of each query.

        Args:
            user_id: string [B]; None for nobody's.
            history: string [B, H], newest last, newer than what is stored; "" and unknown ids
                are not looked at. None for none.

        Returns:
            float32 [B, D] and bool [B].
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
            own = tf.gather(self._user_vectors, tf.maximum(users, 0))
            queries += tf.where(users[:, None] >= 0, own, 0.0)
        return tf.math.l2_normalize(queries, axis=-1) if self._normalize else queries, known

    def _pooled(self, users: tf.Tensor, recent: tf.Tensor | None, batch: tf.Tensor) -> tf.Tensor:
        """The stored histories and the recent items, int32 [B, H], as one vector: [B, D]."""
        joined = self._stored(users)
        if recent is not None:
            joined = tf.concat([joined, tf.ragged.boolean_mask(recent, recent >= 0)], axis=1)
            joined = _last_of_each(joined, self._item_vectors.shape[0])
        items, rows = joined.values, tf.cast(joined.value_rowids(), tf.int32)
        ends = tf.cast(tf.gather(joined.row_splits, rows + 1), tf.int32)
        ages = ends - 1 - tf.range(tf.size(items))
        log_weights = tf.gather(self._item_log_weights, items) + tf.gather(
            self._age_log_weights, pooling.bucket(ages)
        )
        log_weights = tf.where(ages < self._history_length, log_weights, float("-inf"))
        vectors = tf.gather(self._item_vectors, items)
        return pooling.pool(vectors, log_weights, rows, batch, self._exponent)

    def _stored(self, users: tf.Tensor) -> tf.RaggedTensor:
        """The stored items of users, ragged int32 [B, any]; none for unknown users, -1."""
        row = tf.maximum(users, 0)
        starts = tf.gather(self._offsets, row)
        ends = tf.where(users >= 0, tf.gather(self._offsets, row + 1), starts)
        place = tf.ragged.range(starts, ends, row_splits_dtype=tf.int64)
        return place.with_values(tf.gather(self._history_items, place.values))


def _last_of_each(histories: tf.RaggedTensor, count: int) -> tf.RaggedTensor:
    """What is done twice counts as done the last time: ragged int32 [B, any], below ``count``."""
    items = histories.values
    _, pair = tf.unique(histories.value_rowids() * count + tf.cast(items, tf.int64))
    place = tf.range(tf.size(items))
    last = tf.gather(tf.math.unsorted_segment_max(place, pair, tf.size(items)), pair)
    return tf.ragged.boolean_mask(histories, histories.with_values(last == place))


def _constant(values: NDArray[np.generic]) -> tf.Variable:
    # A variable is kept beside the graph, a constant within, where 2 GB are the limit.
    return tf.Variable(values, trainable=False)
