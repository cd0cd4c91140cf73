"""The query tower, which embeds users by history, id and features.

A query is ``base + pool(history) + user``, scaled to length 1 if so configured. ``pool`` is a
weighted sum of the embeddings of the history's items, divided by a power of the total weight. The
weight of an item is learnt, and depends on the item and its age, the number of newer items.
``user`` is the sum of the user's id embedding and feature embeddings. Each term can be left out.

Training and the exported models share the TensorFlow function :func:`pool`. Evaluation and the
probe of exported models use the NumPy implementation in :class:`QueryWeights`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy import sparse

from trainer.config import ModelConfig
from trainer.data.histories import Histories
from trainer.model.towers.embedding import EntityEmbedding, EntityWeights, embed_all, unit_length

Batch = dict[str, tf.Tensor]

#: The number of age ranges, each of which has a weight: 0, 1 to 2, 3 to 6, 7 to 14, and so on. The
#: last range has no upper end.
AGE_BUCKETS = 16


@dataclass(frozen=True, eq=False)
class QueryWeights:
    """A trained query tower as arrays, in the form that is exported.

    Attributes:
        base: float32 [D], added to every query.
        item_vectors: float32 [N, D], the embeddings of history items; None if queries do not depend
            on histories.
        item_log_weights: float32 [N], logarithms of the item weights.
        age_log_weights: float32 [AGE_BUCKETS], logarithms of the age weights.
        exponent: the exponent of :func:`pool`.
        history_length: the maximum number of newest items that are pooled.
        user_vectors: float32 [U, D], the term ``user``; None without user ids and features.
        normalize: True if queries are scaled to length 1.
    """

    base: NDArray[np.float32]
    item_vectors: NDArray[np.float32] | None
    item_log_weights: NDArray[np.float32]
    age_log_weights: NDArray[np.float32]
    exponent: float
    history_length: int
    user_vectors: NDArray[np.float32] | None
    normalize: bool

    def embed(
        self, histories: Histories, users: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """Return the embeddings of B histories, float32 [B, D].

        Args:
            histories: the histories of the B queries.
            users: int [B], the user of each history; None if the users are unknown.
        """
        count = len(histories.offsets) - 1
        queries = np.tile(self.base, (count, 1))
        if self.item_vectors is not None:
            queries += self._pooled(histories.newest(self.history_length))
        if self.user_vectors is not None and users is not None:
            queries += self.user_vectors[users]
        if self.normalize:
            queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-6)
        return queries.astype(np.float32)

    def of_users(self, users: NDArray[np.integer]) -> "QueryWeights":
        """Return these weights for only the given users, int [B], in that order."""
        if self.user_vectors is None:
            return self
        return replace(self, user_vectors=self.user_vectors[users])

    def _pooled(self, histories: Histories) -> NDArray[np.float32]:
        """Compute :func:`pool` with a sparse matrix product: B histories -> float32 [B, D]."""
        assert self.item_vectors is not None
        buckets = age_buckets(histories.newer_counts())
        weights = np.exp(self.item_log_weights[histories.items] + self.age_log_weights[buckets])
        matrix = sparse.csr_matrix(
            (weights, histories.items, histories.offsets),
            shape=(len(histories.offsets) - 1, len(self.item_vectors)),
        )
        total = np.maximum(np.asarray(matrix.sum(axis=1)), 1e-9)
        pooled: NDArray[np.float32] = (matrix @ self.item_vectors) / total**self.exponent
        return pooled


class QueryTower(tf.keras.Model):
    """The trainable query tower of N items and U users."""

    def __init__(
        self,
        item_features: sparse.csr_matrix,
        trained_items: NDArray[np.bool_],
        user_features: sparse.csr_matrix,
        trained_users: NDArray[np.bool_],
        config: ModelConfig,
        *,
        seed: int,
    ) -> None:
        """Create the tower.

        Args:
            item_features: float32 [N, F]; F may be 0.
            trained_items: bool [N], True for items with training rows.
            user_features: float32 [U, G]; G may be 0.
            trained_users: bool [U], True for users with training rows.
            config: the tower settings.
            seed: seeds the initial weights.
        """
        super().__init__(name="query_tower")
        self._config = config
        self._item_count, self._user_count = len(trained_items), len(trained_users)
        dim = config.embedding_dim
        self._items = None
        if config.history_length:
            self._items = EntityEmbedding(
                dim, item_features, trained_items, seed=seed, name="history_items"
            )
        self._base = self._history_weight("base", dim)
        self._item_log_weights = self._history_weight("item_log_weights", self._item_count)
        self._age_log_weights = self._history_weight("age_log_weights", AGE_BUCKETS)
        self._users = None
        if config.user_id or user_features.shape[1]:
            self._users = EntityEmbedding(
                dim,
                user_features,
                trained_users & config.user_id,
                seed=seed + 1,
                id_dropout=config.user_id_dropout,
                name="users",
            )

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """Return query embeddings, float32 [B, D].

        Args:
            batch: ``users`` int32 [B]; ``history_items``, ``history_rows`` and ``history_ages``
                int32 [N], as in :class:`Histories`.
            training: True in a training step.
        """
        users = batch["users"]
        vectors = tf.zeros([tf.shape(users)[0], self._config.embedding_dim])
        if self._items is not None:
            vectors += self._base + self._pooled(self._items, batch)
        if self._users is not None:
            vectors += self._users(users, training=training)
        return unit_length(vectors) if self._config.normalize else vectors

    def trained_weights(self) -> QueryWeights:
        """Return all weights of the tower, in the form that is exported."""
        items, users = self._items, self._users
        return QueryWeights(
            base=self._base.numpy(),
            item_vectors=None if items is None else embed_all(items, self._item_count),
            item_log_weights=self._item_log_weights.numpy(),
            age_log_weights=self._age_log_weights.numpy(),
            exponent=self._config.history_exponent,
            history_length=self._config.history_length,
            user_vectors=None if users is None else embed_all(users, self._user_count),
            normalize=self._config.normalize,
        )

    def item_weights(self) -> EntityWeights | None:
        """Return the learnt weights that embed history items; None without histories."""
        return None if self._items is None else self._items.trained_weights()

    def _pooled(self, item_embedding: EntityEmbedding, batch: Batch) -> tf.Tensor:
        # An item in several histories is embedded only once.
        items, positions = tf.unique(batch["history_items"])
        item_log_weights = tf.gather(tf.gather(self._item_log_weights, items), positions)
        age_log_weights = tf.gather(self._age_log_weights, age_buckets_tf(batch["history_ages"]))
        return pool(
            tf.gather(item_embedding(items), positions),
            item_log_weights + age_log_weights,
            batch["history_rows"],
            tf.shape(batch["users"])[0],
            self._config.history_exponent,
        )

    def _history_weight(self, name: str, size: int) -> tf.Variable:
        """Create a weight vector of zeros, which is trained only if queries depend on histories."""
        return self.add_weight(
            name, (size,), initializer="zeros", trainable=self._items is not None
        )


def age_buckets(ages: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the bucket of each age, the number of newer items: int [N] -> int32 [N]."""
    buckets: NDArray[np.int32] = np.log2(np.asarray(ages) + 1.0).astype(np.int32)
    return np.minimum(buckets, AGE_BUCKETS - 1)


def age_buckets_tf(ages: tf.Tensor) -> tf.Tensor:
    """Compute :func:`age_buckets` in TensorFlow: int32 [N] -> int32 [N]."""
    # Adding 1.5 instead of 1 keeps rounding errors of the logarithm from changing the bucket.
    exact = tf.math.log(tf.cast(ages, tf.float32) + 1.5) / tf.math.log(2.0)
    return tf.minimum(tf.cast(exact, tf.int32), AGE_BUCKETS - 1)


def pool(
    vectors: tf.Tensor, log_weights: tf.Tensor, rows: tf.Tensor, query_count: Any, exponent: float
) -> tf.Tensor:
    """Divide the weighted sum of each query's vectors by the total weight ** ``exponent``.

    Args:
        vectors: float32 [N, D], the embeddings of all items in all histories.
        log_weights: float32 [N], the logarithm of each item's weight.
        rows: int32 [N], the query of each item, ascending.
        query_count: int32 scalar, B.
        exponent: 0 for a sum, 1 for a mean. In between, a longer history has a longer vector, but
            less than in proportion.

    Returns:
        float32 [B, D]; zeros for an empty history.
    """
    weights = tf.exp(log_weights)
    total = tf.math.unsorted_segment_sum(weights, rows, query_count)
    summed = tf.math.unsorted_segment_sum(vectors * weights[:, None], rows, query_count)
    return summed / tf.pow(tf.maximum(total, 1e-9), exponent)[:, None]
