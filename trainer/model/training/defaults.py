"""What a configuration leaves open, chosen by the size of the data."""

from dataclasses import replace

from trainer.config import Config

#: Up to this many items the softmax runs over all of them.
FULL_SOFTMAX_UP_TO = 20_000

_USERS_OF_A_STEP = (128, 1024)
_STEPS_OF_AN_EPOCH = 300
_ROWS_OF_A_STEP = 4096


def resolve(config: Config, *, users: int, items: int, timestamps: bool) -> Config:
    """The configuration with nothing left open.

    Args:
        config: of the run.
        users: number of users.
        items: size of the catalogue.
        timestamps: whether rows have a time.
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
        # The optimiser's work of a step is that of the whole catalogue, however few its users.
        low, high = _USERS_OF_A_STEP
        by_size = min(max(users // _STEPS_OF_AN_EPOCH, low), high)
        batch_size = _ROWS_OF_A_STEP if objective == "in_batch" else by_size
    return replace(
        config,
        training=replace(training, objective=objective, targets=targets, batch_size=batch_size),
    )
