"""Rows held out of the training rows, on which training is watched."""

from dataclasses import replace

import numpy as np
from rich.console import Console

from trainer.config import Config
from trainer.data import split
from trainer.data.types import DataError, Interactions, Split

# Every epoch ranks the catalogue for each of them.
_MOST_USERS = 5_000


def split_off(rows: Interactions, config: Config, console: Console) -> Split | None:
    """Rows to learn from, and as ``test`` rows to watch that on, held out as the test rows are.

    At most 5,000 users are watched. None where there are too few rows for both, which ``console``
    then says: data that is small, or of users with few rows each, can be learnt from all the same.
    """
    share = config.training.validation_share
    try:
        # Another seed than the test's: the same order of rows would be cut at the same end.
        parts = split.split(rows, config.split.kind, share, config.seed + 1)
        return replace(parts, test=_of_some_users(parts.test, config.seed))
    except DataError as error:
        console.print(f"Training for all of the epochs, with no rows to watch it on: {error}")
        return None


def _of_some_users(rows: Interactions, seed: int) -> Interactions:
    users = np.unique(rows.users)
    if len(users) <= _MOST_USERS:
        return rows
    chosen = np.random.default_rng(seed).choice(users, _MOST_USERS, replace=False)
    return rows.take(np.isin(rows.users, chosen))
