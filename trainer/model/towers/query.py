"""The query tower, which embeds users by their history, id and features.

``q = base + pool(history) [+ user]``, scaled to length 1 if so configured. ``pool`` sums the
embeddings of the history's items, each with a learnt weight of the item and of its age. ``user`` is
the sum of the user's id embedding and feature embeddings. Training and the exported models share
the TensorFlow function :func:`pool`; evaluation and the check of exported models use the NumPy
version in :class:`QueryWeights`.
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

#: Each range of ages 0, 1-2, 3-6, 7-14 ... has a weight; the last bucket holds all older items.
AGE_BUCKETS = 16


@dataclass(frozen=True, eq=False)
class QueryWeights:
    """A trained query tower as arrays, in the form that is exported.

    Attributes:
        base: float32 [D], added to every query.
        item_vectors: float32 [N, D], embeddings of the items of histories; None without history.
        item_log_weights: float32 [N], logarithms of the items' weights.
        age_log_weights: float32 [AGE_BUCKETS], logarithms of the weights of ages.
        exponent: see :func:`pool`.
        history_length: number of newest items that are pooled.
        user_vectors: float32 [U, D]; None without user ids and user features.
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
            users: int [B], the users whose histories they are; None for unknown users.
        """
        count = len(histories.offsets) - 1
        queries = np.tile(self.base, (count, 1))
        if self.item_vectors is not None:
            queries += self._pooled(histories.newest(self.history_length))
        if self.user_vectors is not None and users is not None:
            queries += self.user_vectors[users]
        if self.normalize:
            norms = np.sqrt(np.maximum((queries**2).sum(axis=1, keepdims=True), 1e-12))
            queries /= norms
        return queries.astype(np.float32)

    def of_users(self, users: NDArray[np.integer]) -> "QueryWeights":
        """Return the weights with the embeddings of ``users`` only, int [B], in that order."""
        if self.user_vectors is None:
            return self
        return replace(self, user_vectors=self.user_vectors[users])

    def _pooled(self, histories: Histories) -> NDArray[np.float32]:
        assert self.item_vectors is not None
        buckets = age_buckets(histories.ages())
        weights = np.exp(self.item_log_weights[histories.items] + self.age_log_weights[buckets])
        matrix = sparse.csr_matrix(
            (weights, histories.items, histories.offsets),
            shape=(len(histories.offsets) - 1, len(self.item_vectors)),
        )
        total = np.maximum(np.asarray(matrix.sum(axis=1)), 1e-9)
        pooled: NDArray[np.float32] = (matrix @ self.item_vectors) / total**self.exponent
        return pooled


class QueryTower(tf.keras.Model):
    """The trainable query tower of N items and U users; :class:`QueryWeights` holds its result.

    Features are float32 [N, F] and [U, G]. ``trained_items``, bool [N], and ``trained_users``, bool
    [U], are True where there are training rows.
    """

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
        super().__init__(name="query_tower")
        self._config = config
        self._counts = len(trained_items), len(trained_users)
        self._has_history = config.history_length > 0
        if self._has_history:
            dim = config.embedding_dim
            self._items = EntityEmbedding(
                dim, item_features, trained_items, seed=seed, name="history_items"
            )
            self._item_weights = self._zeros("item_log_weights", len(trained_items), 1)
            self._age_weights = self._zeros("age_log_weights", AGE_BUCKETS, 1)
            self._base = self._zeros("base", dim)
        self._users = None
        if config.user_id or user_features.shape[1]:
            self._users = EntityEmbedding(
                config.embedding_dim,
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
        if self._has_history:
            vectors += self._base + self._pooled(batch, tf.shape(users)[0])
        if self._users is not None:
            vectors += self._users(users, training=training)
        return unit_length(vectors) if self._config.normalize else vectors

    def trained_weights(self) -> QueryWeights:
        """Return the learnt weights."""
        items, users = self._counts
        config, empty = self._config, np.zeros(0, np.float32)
        history = self._has_history
        return QueryWeights(
            base=self._base.numpy() if history else np.zeros(config.embedding_dim, np.float32),
            item_vectors=embed_all(self._items, items) if history else None,
            item_log_weights=self._item_weights.numpy()[:, 0] if history else empty,
            age_log_weights=self._age_weights.numpy()[:, 0] if history else empty,
            exponent=config.history_exponent,
            history_length=config.history_length,
            user_vectors=None if self._users is None else embed_all(self._users, users),
            normalize=config.normalize,
        )

    def item_weights(self) -> EntityWeights | None:
        """Return the learnt weights of the items of histories; None without history."""
        return self._items.trained_weights() if self._has_history else None

    def _pooled(self, batch: Batch, queries: tf.Tensor) -> tf.Tensor:
        # Items that are in several histories are embedded only once.
        items, positions = tf.unique(batch["history_items"])
        log_weights = tf.gather(tf.gather(self._item_weights, items), positions) + tf.gather(
            self._age_weights, bucket(batch["history_ages"])
        )
        return pool(
            tf.gather(self._items(items), positions),
            log_weights[:, 0],
            batch["history_rows"],
            queries,
            self._config.history_exponent,
        )

    def _zeros(self, name: str, *shape: int) -> tf.Variable:
        return self.add_weight(name, shape, initializer="zeros")


def age_buckets(ages: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the bucket of each age: int [N] -> int32 [N]. An age is the number of newer items."""
    buckets: NDArray[np.int32] = np.log2(np.asarray(ages) + 1.0).astype(np.int32)
    return np.minimum(buckets, AGE_BUCKETS - 1)


def bucket(ages: tf.Tensor) -> tf.Tensor:
    """Compute :func:`age_buckets` in TensorFlow: int32 [N] -> int32 [N]."""
    # 1.5 instead of 1, so that rounding errors of the logarithm do not change the bucket.
    exact = tf.math.log(tf.cast(ages, tf.float32) + 1.5) / tf.math.log(2.0)
    return tf.minimum(tf.cast(exact, tf.int32), AGE_BUCKETS - 1)


def pool(
    vectors: tf.Tensor, log_weights: tf.Tensor, rows: tf.Tensor, queries: Any, exponent: float
) -> tf.Tensor:
    """Divide the weighted sum of each query's vectors by the total weight ** ``exponent``.

    Args:
        vectors: float32 [N, D], the embeddings of all items of all histories.
        log_weights: float32 [N], the logarithms of the weights.
        rows: int32 [N], ascending: the query of each item.
        queries: int32 scalar, the number of queries B.
        exponent: 0 for a sum, 1 for a mean. In between, longer histories have longer vectors, but
            less than in proportion to their length.

    Returns:
        float32 [B, D]; zeros for an empty history.
    """
    weights = tf.exp(log_weights)
    total = tf.math.unsorted_segment_sum(weights, rows, queries)
    summed = tf.math.unsorted_segment_sum(vectors * weights[:, None], rows, queries)
    return summed / tf.pow(tf.maximum(total, 1e-9), exponent)[:, None]
