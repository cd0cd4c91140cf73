"""Chooses the reader for the data set that a command asks for."""

from collections.abc import Callable
from pathlib import Path

from trainer.data import files, movielens, synthetic
from trainer.data.types import Dataset
from trainer.errors import DataError, DataUnavailable

AUTO = "auto"
DATASETS = (movielens.NAME, synthetic.NAME, AUTO)


def load(
    dataset: str | None,
    *,
    interactions: Path | None = None,
    items: Path | None = None,
    users: Path | None = None,
    data_dir: Path | None = None,
    notify: Callable[[str], None],
) -> Dataset:
    """Load a named data set, or the user's own files.

    Args:
        dataset: a name in :data:`DATASETS`. ``auto`` is MovieLens 100K if it is on this machine or
            can be downloaded, and otherwise the synthetic data set.
        interactions: a file of interactions, which is read instead of ``dataset``.
        items: a file of items that goes with ``interactions``.
        users: a file of users that goes with ``interactions``.
        data_dir: the directory of an unpacked MovieLens 100K archive.
        notify: called with a message if ``auto`` falls back to the synthetic data set.

    Raises:
        DataError: there is no such data set, or it cannot be used.
    """
    if interactions is not None:
        return files.load(interactions, items, users)
    if dataset == movielens.NAME:
        return movielens.load(data_dir)
    if dataset == synthetic.NAME:
        return synthetic.load()
    if dataset != AUTO:
        raise DataError(
            f"there is no data set {dataset!r}; the data sets are {', '.join(DATASETS)}"
        )
    try:
        return movielens.load(data_dir)
    except DataUnavailable as error:
        notify(
            f"{error}\nUsing the SYNTHETIC data set instead. Its metrics cannot be compared with "
            "MovieLens results."
        )
        return synthetic.load()
