"""The TensorFlow Recommenders model: both towers, the retrieval loss and the rating loss."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.config import TrainingConfig
from trainer.model.towers.candidate import CandidateTower
from trainer.model.towers.query import Batch, QueryTower


class TwoTowerModel(tfrs.Model):
    """Learns embeddings whose dot product is the affinity of a query and a candidate.

    If the rows are ``rated``, the dot products also predict ratings, as a second task on the same
    towers. Items that were liked then count more than items that were only seen. In ``config``, all
    automatic choices must have been made.
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
        super().__init__()
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self._config = config
        self._in_batch = config.objective == "in_batch"
        self._correct = config.logq_correction and config.objective != "full_softmax"
        self._task = tfrs.tasks.Retrieval(
            temperature=config.temperature,
            num_hard_negatives=config.hard_negatives or None,
            remove_accidental_hits=config.remove_accidental_hits,
        )
        self._rating_weight = config.rating_weight if rated else 0.0
        if self._rating_weight:
            self._rating_task = tfrs.tasks.Ranking(
                loss=tf.keras.losses.MeanSquaredError(reduction=tf.keras.losses.Reduction.NONE)
            )
            self._item_ratings = self.add_weight("item_ratings", (items, 1), initializer="zeros")
            self._affinity = self.add_weight("affinity", (), initializer="ones")

    def compute_loss(self, features: Batch, training: bool = False) -> tf.Tensor:
        """Return the loss of the arrays of a :class:`trainer.model.training.batches.Step`.

        With the in_batch objective the loss is the sum over the targets, as in TensorFlow
        Recommenders, whose task takes one target per query. Otherwise it is their weighted mean.
        """
        queries = self.query_tower(features, training=training)
        candidates = self.candidate_tower(features["candidates"], training=training)
        if self._in_batch:
            loss = self._task(
                queries,
                candidates,
                candidate_ids=features["candidates"],
                candidate_sampling_probability=(
                    tf.exp(features["log_expected"]) if self._correct else None
                ),
                compute_metrics=False,
            )
        else:
            loss = self._softmax(features, queries, candidates)
        if self._rating_weight:
            loss += self._rating_weight * self._rating_error(features, queries, candidates)
        return loss

    def _softmax(self, features: Batch, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Return the softmax loss of every target against all candidates.

        All targets of a query share one row of scores. Scores are corrected for how often an item
        is a candidate: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
        recommendations" (RecSys 2019).
        """
        scores = tf.linalg.matmul(queries, candidates, transpose_b=True) / self._config.temperature
        if self._correct:
            scores -= features["log_expected"]
        target_places = tf.stack([features["target_rows"], features["target_columns"]], axis=1)
        target_scores = tf.gather_nd(scores, target_places)
        total = tf.gather(_log_sum_exp(scores, self._config.hard_negatives), target_places[:, 0])
        weights = features["target_weights"]
        return tf.reduce_sum((total - target_scores) * weights) / tf.reduce_sum(weights)

    def _rating_error(
        self, features: Batch, queries: tf.Tensor, candidates: tf.Tensor
    ) -> tf.Tensor:
        """Return the squared error of predicted ratings, summed or averaged like the other loss."""
        columns = features["target_columns"]
        pairs = tf.gather(queries, features["target_rows"]) * tf.gather(candidates, columns)
        item_means = tf.gather(self._item_ratings, tf.gather(features["candidates"], columns))[:, 0]
        predicted = item_means + self._affinity * tf.reduce_sum(pairs, axis=1)
        weights = features["target_weights"]
        errors = self._rating_task(
            labels=features["target_ratings"][:, None], predictions=predicted[:, None]
        )
        total = tf.reduce_sum(errors * weights)
        return total if self._in_batch else total / tf.reduce_sum(weights)


def _log_sum_exp(scores: tf.Tensor, hardest: int) -> tf.Tensor:
    """Reduce over all candidates, or over the ``hardest`` ones if not 0: [B, C] -> [B]."""
    if hardest:
        scores = tf.math.top_k(scores, tf.minimum(hardest, tf.shape(scores)[1]), sorted=False)[0]
    return tf.reduce_logsumexp(scores, axis=1)
