"""Rows held out of the training rows, on which training is watched."""

from rich.console import Console

from trainer.config import Config
from trainer.data import split
from trainer.data.types import DataError, Interactions, Split


def split_off(rows: Interactions, config: Config, console: Console) -> Split | None:
    """Rows to learn from, and as ``test`` rows to watch that on, held out as the test rows are.

    None where there are too few for both, which ``console`` then says: data that is small, or of
    users with few rows each, can be learnt from all the same.
    """
    share = config.training.validation_share
    try:
        # Another seed than the test's: the same order of rows would be cut at the same end.
        return split.split(rows, config.split.kind, share, config.seed + 1)
    except DataError as error:
        console.print(f"Training for all of the epochs, with no rows to watch it on: {error}")
        return None
