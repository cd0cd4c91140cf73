"""Chooses the settings that a configuration leaves open, based on the data."""

from dataclasses import replace

from trainer.config import Config
from trainer.data.types import Dataset, Interactions

#: The largest catalogue for which "auto" chooses a softmax over all items.
MAX_FULL_SOFTMAX_ITEMS = 20_000

_MIN_USERS_PER_STEP, _MAX_USERS_PER_STEP = 128, 1024
_STEPS_PER_EPOCH = 300
_ROWS_PER_STEP = 4096


def resolve(config: Config, dataset: Dataset, rows: Interactions) -> Config:
    """Return the configuration with every automatic choice made for ``rows``, the training rows."""
    users, items = len(dataset.user_ids), len(dataset.item_ids)
    training = config.training
    objective = training.objective
    if objective == "auto":
        objective = "full_softmax" if items <= MAX_FULL_SOFTMAX_ITEMS else "sampled_softmax"
    targets = training.targets
    if targets == "auto":
        has_timestamps = rows.timestamps is not None
        targets = "future" if config.split.kind != "random" and has_timestamps else "random"
    batch_size = training.batch_size
    if not batch_size:
        # Every step updates the whole catalogue, so a larger data set needs larger batches.
        users_per_step = max(users // _STEPS_PER_EPOCH, _MIN_USERS_PER_STEP)
        users_per_step = min(users_per_step, _MAX_USERS_PER_STEP)
        batch_size = _ROWS_PER_STEP if objective == "in_batch" else users_per_step
    training = replace(training, objective=objective, targets=targets, batch_size=batch_size)
    return replace(config, training=training)
