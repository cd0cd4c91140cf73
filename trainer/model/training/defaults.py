"""Makes the automatic choices of a configuration, which depend on the data."""

from dataclasses import replace

from trainer.config import Config

#: Catalogues up to this size are trained with a softmax over all items.
FULL_SOFTMAX_UP_TO = 20_000

_MIN_USERS_PER_STEP, _MAX_USERS_PER_STEP = 128, 1024
_STEPS_PER_EPOCH = 300
_ROWS_PER_STEP = 4096


def resolve(config: Config, *, users: int, items: int, timestamps: bool) -> Config:
    """Return the configuration with all automatic choices made.

    Args:
        config: the configuration of the run.
        users: number of users.
        items: number of items in the catalogue.
        timestamps: True if the rows have timestamps.
    """
    training = config.training
    objective = training.objective
    if objective == "auto":
        objective = "full_softmax" if items <= FULL_SOFTMAX_UP_TO else "sampled_softmax"
    targets = training.targets
    if targets == "auto":
        targets = "future" if config.split.kind != "random" and timestamps else "random"
    batch_size = training.batch_size
    if not batch_size:
        # The optimizer updates the whole catalogue in every step, so that larger data needs larger
        # steps.
        by_users = max(users // _STEPS_PER_EPOCH, _MIN_USERS_PER_STEP)
        by_users = min(by_users, _MAX_USERS_PER_STEP)
        batch_size = _ROWS_PER_STEP if objective == "in_batch" else by_users
    return replace(
        config,
        training=replace(training, objective=objective, targets=targets, batch_size=batch_size),
    )
