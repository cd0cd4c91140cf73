"""Downloads and reads MovieLens 100K: 100,000 ratings of 1,682 films by 943 users.

Harper and Konstan, "The MovieLens datasets: history and context" (TiiS 2015). Items are identified
by their id, because 18 titles occur twice.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from serving_contract import MAX_ID_BYTES
from trainer.data.types import Dataset, Interactions
from trainer.errors import DataError, DataUnavailable

NAME = "movielens-100k"
URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"

_FILES = ("u.data", "u.item", "u.user")
_CONNECT_TIMEOUT_S = 10
#: Ten times the size of the largest file of the data set.
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
    item_columns = ["item_id", "title", "date", "video", "url", *_GENRES]
    items = _table(data_dir / "u.item", "|", item_columns, distinct=True)
    user_columns = ["user_id", "age", "gender", "occupation", "zip"]
    users = _table(data_dir / "u.user", "|", user_columns, distinct=True)
    row_columns = ["user_id", "item_id", "rating", "timestamp"]
    rows = _table(data_dir / "u.data", "\t", row_columns, distinct=False)
    item_ids, user_ids = items["item_id"].to_numpy(object), users["user_id"].to_numpy(object)
    return Dataset(
        name=NAME,
        user_ids=user_ids,
        item_ids=item_ids,
        titles=items["title"].to_numpy(object),
        interactions=Interactions(
            users=_positions(rows["user_id"], user_ids, data_dir / "u.data"),
            items=_positions(rows["item_id"], item_ids, data_dir / "u.data"),
            timestamps=_numbers(rows["timestamp"], data_dir / "u.data"),
            ratings=_numbers(rows["rating"], data_dir / "u.data").astype(np.float32),
        ),
        user_features=users[["age", "gender", "occupation"]],
        item_features=_item_features(items),
    )


def _item_features(items: pd.DataFrame) -> pd.DataFrame:
    """Return title, year of release and genres, which the file has as a flag each."""
    genres = [
        "|".join(genre for genre, has in zip(_GENRES, row, strict=True) if has == "1")
        for row in items[_GENRES].itertuples(index=False)
    ]
    years = items["date"].str[-4:]
    return pd.DataFrame({"title": items["title"], "year": years, "genres": genres})


def _download(directory: Path, url: str, sha256: str) -> None:
    import pooch

    def fetch(url: str, output_file: str, pool: pooch.Pooch) -> None:
        pooch.HTTPDownloader(progressbar=_Progress(), timeout=_CONNECT_TIMEOUT_S)(
            url, output_file, pool
        )

    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname="ml-100k.zip",
            path=directory,
            downloader=fetch,
            processor=pooch.Unzip(extract_dir="."),
        )
    # OSError: no network or no such page. ValueError: the checksum differs.
    except (OSError, ValueError) as error:
        raise DataUnavailable(
            f"MovieLens 100K could not be downloaded from {url}: {error}\n"
            "Download and unpack it by hand and pass --data-dir DIR, or use --dataset synthetic."
        ) from error


class _Progress:
    """Shows the progress of a download; pooch expects the interface of a tqdm progress bar."""

    def __init__(self) -> None:
        from rich.progress import DownloadColumn, Progress

        self.total = 0
        self._bar = Progress(*Progress.get_default_columns(), DownloadColumn())
        self._task = self._bar.add_task("MovieLens 100K")

    def update(self, size_bytes: int) -> None:
        self._bar.start()
        self._bar.update(self._task, total=self.total, advance=size_bytes)

    def reset(self) -> None:
        self._bar.reset(self._task)

    def close(self) -> None:
        self._bar.stop()


def _table(path: Path, separator: str, columns: list[str], *, distinct: bool) -> pd.DataFrame:
    """Read all columns as text. The first one holds ids, which may have to be ``distinct``."""
    with path.open(encoding="latin-1") as file:
        text = file.read(_MAX_FILE_BYTES + 1)
    if len(text) > _MAX_FILE_BYTES:
        raise DataError(
            f"{path} has more than {_MAX_FILE_BYTES:,} bytes, so it is not a file of MovieLens 100K"
        )
    # splitlines() would also split at characters that occur in titles.
    fields = [line.split(separator) for line in text.removesuffix("\n").split("\n")]
    ids: dict[str, int] = {}
    for number, line in enumerate(fields, start=1):
        if len(line) != len(columns):
            problem = f"the line has {len(line)} fields instead of {len(columns)}"
        elif not 0 < len(line[0].encode()) <= MAX_ID_BYTES:
            problem = f"{columns[0]} must be text of 1 to {MAX_ID_BYTES} bytes"
        elif distinct and ids.setdefault(line[0], number) != number:
            problem = f"{columns[0]} {line[0]!r} is already in line {ids[line[0]]}"
        else:
            continue
        raise DataError(f"{path}, line {number}: {problem}")
    return pd.DataFrame(fields, columns=columns, dtype=object)


def _positions(ids: pd.Series, known: np.ndarray, path: Path) -> np.ndarray:
    positions = pd.Index(known).get_indexer(ids)
    if (positions < 0).any():
        line = int(np.argmax(positions < 0))
        raise DataError(
            f"{path}, line {line + 1}: there is no {ids.name} {ids.iloc[line][:40]!r} "
            f"in u.{'item' if ids.name == 'item_id' else 'user'}"
        )
    return np.asarray(positions, np.int32)


def _numbers(values: pd.Series, path: Path) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    bad = ~((numbers.abs() < 2**53) & (numbers == numbers.round()))
    if bad.any():
        line = int(np.argmax(bad))
        raise DataError(
            f"{path}, line {line + 1}: {values.name} must be a whole number, "
            f"not {values.iloc[line][:40]!r}"
        )
    return np.asarray(numbers, np.int64)
