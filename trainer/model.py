"""The TensorFlow Recommenders model: two towers and the retrieval task."""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from serving_contract import ITEM_ID, USER_ID
from trainer.config import TrainingConfig

#: Feature of a training batch: how often the item is drawn as a negative.
SAMPLING_PROBABILITY = "sampling_probability"
#: Feature of a training batch: the item as a number, to find it again in the batch.
ITEM_ROW = "item_row"


class TwoTowerModel(tfrs.Model):
    """Learns vectors whose dot product is the affinity of user and item."""

    def __init__(
        self, query_tower: tf.keras.Model, candidate_tower: tf.keras.Model, config: TrainingConfig
    ) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self._logq_correction = config.logq_correction
        self._task = tfrs.tasks.Retrieval(
            temperature=config.temperature,
            remove_accidental_hits=config.remove_accidental_hits,
        )

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The in-batch sampled softmax loss, summed over the batch.

        Args:
            features: ``user_id`` string [B], ``item_id`` string [B], ``item_row``
                int32 [B], and ``sampling_probability`` float32 [B] for the logQ
                correction of Yi et al., "Sampling-bias-corrected neural modeling
                for large corpus item recommendations" (RecSys 2019).
            training: whether this is a training step.
        """
        return self._task(
            self.query_tower(features[USER_ID]),
            self.candidate_tower(features[ITEM_ID]),
            candidate_ids=features[ITEM_ROW],
            candidate_sampling_probability=(
                features[SAMPLING_PROBABILITY] if self._logq_correction else None
            ),
            compute_metrics=not training,
        )
