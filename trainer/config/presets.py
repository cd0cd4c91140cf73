"""Named configurations, which ``--config`` selects."""

from collections.abc import Mapping

from trainer.config.sections import Config, ModelConfig, TrainingConfig

PRESETS: Mapping[str, Config] = {
    "default": Config(),
    # Chosen on validation rows held out of the training rows; see docs/model.md.
    "movielens-100k": Config(
        model=ModelConfig(
            embedding_dim=128,
            history_exponent=0.3,
            user_id=True,
            user_id_dropout=0.1,
            item_features=("genres:tags", "year:number"),
            item_id_dropout=0.3,
            new_item_scale=0.7,
        ),
        # The number of epochs was chosen on validation rows, so train once on all rows.
        training=TrainingConfig(
            kept_weight=1.0, rating_weight=0.6, learning_rate=0.01, epochs=100, validation_share=0.0
        ),
    ),
    # https://www.tensorflow.org/recommenders/examples/basic_retrieval
    "tutorial": Config(
        model=ModelConfig(
            embedding_dim=32, normalize=False, history_length=0, user_id=True, item_features=()
        ),
        training=TrainingConfig(
            objective="in_batch",
            batch_size=8192,
            negatives=0,
            rating_weight=0.0,
            temperature=1.0,
            logq_correction=False,
            remove_accidental_hits=False,
            optimizer="adagrad",
            learning_rate=0.1,
            learning_rate_decay=False,
            epochs=3,
            validation_share=0.0,
        ),
    ),
}
