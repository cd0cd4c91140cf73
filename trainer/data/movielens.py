"""Downloads and reads MovieLens 100K: 100,000 ratings of 1,682 films by 943 users.

Harper and Konstan, "The MovieLens datasets: history and context" (TiiS 2015). Items are identified
by their id, because 18 titles occur twice.
"""

from pathlib import Path

import pandas as pd

from trainer.data import builder
from trainer.data.builder import Table
from trainer.data.types import Dataset
from trainer.errors import DataError, DataUnavailable

NAME = "movielens-100k"
URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"

_FILES = ("u.data", "u.item", "u.user")
_CONNECT_TIMEOUT_S = 10
#: Ten times the size of the largest file in the data set.
_MAX_FILE_BYTES = 20_000_000
_GENRES = [
    *("unknown", "action", "adventure", "animation", "childrens", "comedy", "crime"),
    *("documentary", "drama", "fantasy", "film_noir", "horror", "musical", "mystery"),
    *("romance", "sci_fi", "thriller", "war", "western"),
]


def load(
    data_dir: Path | None = None,
    *,
    download_dir: Path = Path("data"),
    url: str = URL,
    sha256: str = SHA256,
) -> Dataset:
    """Read the data set, and download it first if it is not on this machine.

    Args:
        data_dir: the directory of the unpacked archive; None for ``download_dir/ml-100k``.
        download_dir: the directory that a download is unpacked into.
        url: the address of the archive.
        sha256: the archive's SHA-256 checksum, in hexadecimal.

    Raises:
        DataUnavailable: the data set is not on this machine and cannot be downloaded.
        DataError: a file is missing or malformed.
    """
    if data_dir is None:
        data_dir = download_dir / "ml-100k"
        if not data_dir.is_dir():
            _download(download_dir, url, sha256)
    missing = [name for name in _FILES if not (data_dir / name).is_file()]
    if missing:
        raise DataError(
            f"{data_dir} does not contain MovieLens 100K: {', '.join(missing)} not found"
        )
    rows = _table(data_dir / "u.data", "\t", ["user_id", "item_id", "rating", "timestamp"])
    items = _table(data_dir / "u.item", "|", ["item_id", "title", "date", "video", "url", *_GENRES])
    users = _table(data_dir / "u.user", "|", ["user_id", "age", "gender", "occupation", "zip"])
    return builder.build(
        NAME,
        rows,
        Table(items.path, _item_features(items.frame)),
        Table(users.path, users.frame.drop(columns="zip")),
    )


def _item_features(items: pd.DataFrame) -> pd.DataFrame:
    """Return the id, the title, the year of release and the genres of every item."""
    # The file has a column of zeros and ones for each genre.
    genres = [
        "|".join(genre for genre, flag in zip(_GENRES, row, strict=True) if flag == "1")
        for row in items[_GENRES].itertuples(index=False)
    ]
    return items[["item_id", "title"]].assign(year=items["date"].str[-4:], genres=genres)


def _download(directory: Path, url: str, sha256: str) -> None:
    # Imported here, because only a download needs it.
    import pooch

    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname="ml-100k.zip",
            path=directory,
            downloader=pooch.HTTPDownloader(progressbar=True, timeout=_CONNECT_TIMEOUT_S),
            processor=pooch.Unzip(extract_dir="."),
        )
    # OSError: no network or no such page. ValueError: wrong checksum.
    except (OSError, ValueError) as error:
        raise DataUnavailable(
            f"MovieLens 100K could not be downloaded from {url}: {error}\n"
            "Download and unpack it by hand and pass --data-dir DIR, or use --dataset synthetic."
        ) from error


def _table(path: Path, separator: str, columns: list[str]) -> Table:
    """Read all columns of a file as text."""
    with path.open(encoding="latin-1") as file:
        text = file.read(_MAX_FILE_BYTES + 1)
    if len(text) > _MAX_FILE_BYTES:
        raise DataError(
            f"{path} has more than {_MAX_FILE_BYTES:,} bytes, so it is not a MovieLens 100K file"
        )
    # splitlines() would also split at characters that occur in titles.
    lines = [line.split(separator) for line in text.removesuffix("\n").split("\n")]
    for number, fields in enumerate(lines, start=1):
        if len(fields) != len(columns):
            raise DataError(
                f"{path}, line {number}: expected {len(columns)} fields, but found {len(fields)}"
            )
    return Table(path, pd.DataFrame(lines, columns=columns, dtype=object))
