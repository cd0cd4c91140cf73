"""The TensorFlow Recommenders model: two towers and the retrieval loss."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.config import TrainingConfig
from trainer.towers.candidate import CandidateTower
from trainer.towers.query import Batch, QueryTower


class TwoTowerModel(tfrs.Model):
    """Learns vectors whose dot product is the affinity of query and candidate."""

    def __init__(
        self,
        query_tower: QueryTower,
        candidate_tower: CandidateTower,
        config: TrainingConfig,
        *,
        objective: str,
    ) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self._config = config
        self._in_batch = objective == "in_batch"
        self._correct = config.logq_correction and objective != "full_softmax"
        self._task = tfrs.tasks.Retrieval(
            temperature=config.temperature,
            num_hard_negatives=config.hard_negatives or None,
            remove_accidental_hits=config.remove_accidental_hits,
        )

    def compute_loss(self, features: Batch, training: bool = False) -> tf.Tensor:
        """The softmax loss of a :class:`trainer.batches.Step`, given as its arrays.

        Summed over the targets in batch, as the task of TensorFlow Recommenders has it, which
        takes one target per query; else their weighted mean. Scores are corrected for how often
        a candidate is met: Yi et al., "Sampling-bias-corrected neural modeling for large corpus
        item recommendations" (RecSys 2019).
        """
        queries = self.query_tower(features, training=training)
        candidates = self.candidate_tower(features["candidates"], training=training)
        if self._in_batch:
            return self._task(
                queries,
                candidates,
                candidate_ids=features["candidates"],
                candidate_sampling_probability=(
                    tf.exp(features["log_expected"]) if self._correct else None
                ),
                compute_metrics=False,
            )
        scores = tf.linalg.matmul(queries, candidates, transpose_b=True) / self._config.temperature
        if self._correct:
            scores -= features["log_expected"]
        place = tf.stack([features["target_rows"], features["target_columns"]], axis=1)
        found = tf.gather_nd(scores, place)
        total = tf.gather(_log_sum_exp(scores, self._config.hard_negatives), place[:, 0])
        weights = features["target_weights"]
        return tf.reduce_sum((total - found) * weights) / tf.reduce_sum(weights)


def _log_sum_exp(scores: tf.Tensor, hardest: int) -> tf.Tensor:
    """Over the candidates, or the ``hardest`` of them where that is not 0: [B, C] -> [B]."""
    if hardest:
        scores = tf.math.top_k(scores, tf.minimum(hardest, tf.shape(scores)[1]), sorted=False)[0]
    return tf.reduce_logsumexp(scores, axis=1)
