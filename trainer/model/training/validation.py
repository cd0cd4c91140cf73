"""Holds validation rows out of the training rows, for early stopping."""

from dataclasses import replace

import numpy as np
from rich.console import Console

from trainer.config import Config
from trainer.data import split
from trainer.data.types import Interactions, Split
from trainer.errors import DataError

# Bounds the time of validation, which ranks the catalogue for every user in every epoch.
_MAX_USERS = 5_000


def split_off(rows: Interactions, config: Config, console: Console) -> Split | None:
    """Return the rows to learn from, and validation rows of at most 5,000 users as ``test``.

    The rows are split in the same way as the test rows. If there are too few rows for a split,
    a message is printed to ``console`` and None is returned: training is still possible.
    """
    share = config.training.validation_share
    try:
        # A seed other than that of the test split, which would cut the same random order again.
        parts = split.split(rows, config.split.kind, share, config.seed + 1)
        return replace(parts, test=_of_sampled_users(parts.test, config.seed))
    except DataError as error:
        console.print(f"Training for all epochs without early stopping, because {error}")
        return None


def _of_sampled_users(rows: Interactions, seed: int) -> Interactions:
    users = np.unique(rows.users)
    if len(users) <= _MAX_USERS:
        return rows
    chosen = np.random.default_rng(seed).choice(users, _MAX_USERS, replace=False)
    return rows.take(np.isin(rows.users, chosen))
