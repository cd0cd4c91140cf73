"""Chooses among the data sets that a run can use."""

from collections.abc import Callable
from pathlib import Path

from trainer.data import files, movielens, synthetic
from trainer.data.types import DataError, Dataset, DataUnavailable

AUTO = "auto"
DATASETS = (movielens.NAME, synthetic.NAME, AUTO)


def load(
    dataset: str | None,
    *,
    interactions: Path | None = None,
    items: Path | None = None,
    users: Path | None = None,
    data_dir: Path | None = None,
    notice: Callable[[str], None],
) -> Dataset:
    """Load a named data set, or files where ``interactions`` is given.

    ``auto`` is MovieLens 100K where it is at hand or can be downloaded, else the
    synthetic set; ``notice`` then gets a sentence that says so.

    Raises:
        DataError: no such data set, or it cannot be used.
    """
    if interactions is not None:
        return files.load(interactions, items, users)
    if dataset == movielens.NAME:
        return movielens.load(data_dir)
    if dataset == synthetic.NAME:
        return synthetic.load()
    if dataset != AUTO:
        raise DataError(f"no data set {dataset!r}; there are: {', '.join(DATASETS)}")
    try:
        return movielens.load(data_dir)
    except DataUnavailable as error:
        notice(f"{error}\nGoing on with the SYNTHETIC data set: its figures are not MovieLens'.")
        return synthetic.load()
