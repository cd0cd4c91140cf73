"""The TensorFlow Recommenders model: both towers, the retrieval loss and the rating loss."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.config import TrainingConfig
from trainer.model.towers.candidate import CandidateTower
from trainer.model.towers.query import Batch, QueryTower


class TwoTowerModel(tfrs.Model):
    """Learns embeddings whose dot product is the score of a candidate for a query.

    If the rows have ratings, a second task on the same towers predicts ratings: an item's rating is
    its mean rating plus the scaled dot product. Items that a user liked then score higher than
    items that the user only interacted with.
    """

    def __init__(
        self,
        query_tower: QueryTower,
        candidate_tower: CandidateTower,
        config: TrainingConfig,
        *,
        items: int,
        rated: bool,
    ) -> None:
        """Create the model.

        Args:
            query_tower: embeds queries.
            candidate_tower: embeds candidates.
            config: the settings, with all automatic choices made (:func:`defaults.resolve`).
            items: the number of items in the catalogue.
            rated: True if the training rows have ratings.
        """
        super().__init__()
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self._config = config
        self._in_batch = config.objective == "in_batch"
        self._corrects_scores = config.logq_correction and config.objective != "full_softmax"
        self._retrieval_task = tfrs.tasks.Retrieval(
            temperature=config.temperature,
            num_hard_negatives=config.hard_negatives or None,
            remove_accidental_hits=config.remove_accidental_hits,
        )
        self._rating_weight = config.rating_weight if rated else 0.0
        if self._rating_weight:
            self._rating_task = tfrs.tasks.Ranking(
                loss=tf.keras.losses.MeanSquaredError(reduction=tf.keras.losses.Reduction.NONE)
            )
            self._item_ratings = self.add_weight("item_ratings", (items,), initializer="zeros")
            self._rating_scale = self.add_weight("rating_scale", (), initializer="ones")

    def compute_loss(self, features: Batch, training: bool = False) -> tf.Tensor:
        """Return the loss for the arrays of a :class:`trainer.model.training.batches.Step`.

        With the in_batch objective, the loss is the sum over the targets, as in the TensorFlow
        Recommenders retrieval task. With the other objectives, it is the weighted mean.
        """
        queries = self.query_tower(features, training=training)
        candidates = self.candidate_tower(features["candidates"], training=training)
        if self._in_batch:
            loss = self._retrieval_task(
                queries,
                candidates,
                candidate_ids=features["candidates"],
                candidate_sampling_probability=(
                    tf.exp(features["log_expected"]) if self._corrects_scores else None
                ),
                compute_metrics=False,
            )
        else:
            loss = self._softmax_loss(features, queries, candidates)
        if self._rating_weight:
            loss += self._rating_weight * self._rating_loss(features, queries, candidates)
        return loss

    def _softmax_loss(
        self, features: Batch, queries: tf.Tensor, candidates: tf.Tensor
    ) -> tf.Tensor:
        """Return the weighted mean of the softmax losses of the targets over all candidates.

        The logQ correction lowers the scores of items that are often candidates: Yi et
        al., "Sampling-bias-corrected neural modeling for large corpus item recommendations" (RecSys
        2019).
        """
        scores = tf.linalg.matmul(queries, candidates, transpose_b=True) / self._config.temperature
        if self._corrects_scores:
            scores -= features["log_expected"]
        # All targets of a query share one row of scores.
        rows, columns = features["target_rows"], features["target_columns"]
        target_scores = tf.gather_nd(scores, tf.stack([rows, columns], axis=1))
        normalizers = tf.gather(_log_sum_exp(scores, self._config.hard_negatives), rows)
        weights = features["target_weights"]
        return tf.reduce_sum((normalizers - target_scores) * weights) / tf.reduce_sum(weights)

    def _rating_loss(self, features: Batch, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Return the squared error of predicted ratings, reduced like the retrieval loss."""
        columns = features["target_columns"]
        products = tf.gather(queries, features["target_rows"]) * tf.gather(candidates, columns)
        item_means = tf.gather(self._item_ratings, tf.gather(features["candidates"], columns))
        predicted = item_means + self._rating_scale * tf.reduce_sum(products, axis=1)
        weights = features["target_weights"]
        errors = self._rating_task(
            labels=features["target_ratings"][:, None], predictions=predicted[:, None]
        )
        total = tf.reduce_sum(errors * weights)
        return total if self._in_batch else total / tf.reduce_sum(weights)


def _log_sum_exp(scores: tf.Tensor, hardest: int) -> tf.Tensor:
    """Return the log-sum-exp of each query's ``hardest`` highest scores: [B, C] -> [B].

    If ``hardest`` is 0, all scores count.
    """
    if hardest:
        scores = tf.math.top_k(scores, tf.minimum(hardest, tf.shape(scores)[1]), sorted=False)[0]
    return tf.reduce_logsumexp(scores, axis=1)
