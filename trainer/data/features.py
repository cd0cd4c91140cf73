"""Columns of users or items as sparse rows: what an id that nobody has met is known by.

Every column becomes a few of F features: a category, tags, a bucket of a number, the words of
a text. One entity's row holds 1 / sqrt(n) for each of the n features that it has of a column,
so that no column outweighs another by having many.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from trainer.data.types import DataError

Kind = Literal["category", "tags", "number", "text"]

AUTO = "auto"
#: Separates the tags of one value.
TAG_SEPARATOR = "|"

_BUCKETS = 20
_MIN_COUNT = 2
_MAX_CATEGORIES = 20_000
_MAX_WORDS = 20_000
#: As what a column of lists comes out of a Parquet file, or is built by hand.
_LISTS = (list, tuple, np.ndarray)
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True)
class Column:
    """A column and how it is read.

    Attributes:
        name: of the column.
        kind: category, tags separated by ``|`` or a list of them, number, or text.
        vocabulary: categories, tags or words, each a feature; empty for a number.
        bounds: of a number's buckets, ascending; empty for the others.
    """

    name: str
    kind: Kind
    vocabulary: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """The number of features."""
        return len(self.bounds) + 1 if self.kind == "number" else len(self.vocabulary)

    def feature_names(self) -> list[str]:
        """One name per feature, for people."""
        values = (
            [f"bucket {number}" for number in range(self.size)]
            if self.kind == "number"
            else self.vocabulary
        )
        return [f"{self.name}={value}" for value in values]


@dataclass(frozen=True)
class FeatureEncoder:
    """Columns learnt from one table, applied to any table with the same columns."""

    columns: tuple[Column, ...]

    @property
    def size(self) -> int:
        """F, the number of features."""
        return sum(column.size for column in self.columns)

    def encode(self, table: pd.DataFrame) -> sparse.csr_matrix:
        """One row per entity: float32 [entities, F]. Unknown and missing values have no feature."""
        blocks = [_encoded(column, table[column.name]) for column in self.columns]
        if not blocks:
            return sparse.csr_matrix((len(table), 0), dtype=np.float32)
        return sparse.hstack(blocks, format="csr", dtype=np.float32)

    def as_list(self) -> list[dict[str, Any]]:
        """Plain values, as JSON gives them back."""
        return [
            {
                "name": column.name,
                "kind": column.kind,
                "vocabulary": list(column.vocabulary),
                "bounds": list(column.bounds),
            }
            for column in self.columns
        ]

    @classmethod
    def from_list(cls, columns: Sequence[Mapping[str, Any]]) -> "FeatureEncoder":
        """What :meth:`as_list` was called on."""
        return cls(
            tuple(
                Column(one["name"], one["kind"], tuple(one["vocabulary"]), tuple(one["bounds"]))
                for one in columns
            )
        )


def fit(table: pd.DataFrame | None, wanted: Sequence[str], what: str) -> FeatureEncoder:
    """Learn vocabularies and buckets from ``table``.

    Args:
        table: one row per entity; None where the data has no such file.
        wanted: ``name:kind`` for each column, or ``name`` alone, whose kind is guessed from its
            values; ``auto`` is every column.
        what: of whom the columns are, for messages: ``items`` or ``users``.

    Raises:
        DataError: there is no such column or kind.
    """
    if table is None:
        if named := [name for name in wanted if name != AUTO]:
            raise DataError(f"no file of {what} with the column {', '.join(named)}")
        return FeatureEncoder(())
    columns = (
        _fitted(name, table[name], kind or _guess(table[name]))
        for name, kind in _named(table, wanted, what).items()
    )
    return FeatureEncoder(tuple(column for column in columns if column is not None))


def _named(table: pd.DataFrame, wanted: Sequence[str], what: str) -> dict[str, Kind | None]:
    """Each column once, and its kind; what is named wins over ``auto``."""
    found: dict[str, Kind | None] = {}
    if AUTO in wanted:
        found = dict.fromkeys(map(str, table.columns))
    for text in wanted:
        if text == AUTO:
            continue
        name, colon, kind = text.rpartition(":")
        if text in table or not colon:
            name, colon, kind = text, "", ""
        if name not in table:
            raise DataError(
                f"{what} have no column {name!r}; there are: {', '.join(map(str, table.columns))}"
            )
        if colon and kind not in get_args(Kind):
            raise DataError(f"{text!r}: a column is one of {', '.join(get_args(Kind))}")
        found[name] = kind or None  # type: ignore[assignment]
    return found


def _guess(values: pd.Series) -> Kind:
    if pd.api.types.is_datetime64_any_dtype(values):
        return "number"
    if any(isinstance(value, _LISTS) for value in values):
        return "tags"
    texts = [str(value) for value in values if not _missing(value)]
    if not texts:
        return "category"
    if pd.to_numeric(pd.Series(texts), errors="coerce").notna().all() and len(set(texts)) > 2:
        return "number"
    if any(TAG_SEPARATOR in text for text in texts):
        return "tags"
    # What hardly ever recurs tells only by its words.
    return "category" if len(set(texts)) <= max(2, len(texts) / 2) else "text"


def _missing(value: object) -> bool:
    # pandas would look into a list.
    return not isinstance(value, _LISTS) and (bool(pd.isna(value)) or str(value) == "")  # type: ignore[call-overload]


def _tokens(kind: Kind, value: object) -> list[str]:
    if isinstance(value, _LISTS):
        parts = [str(part) for part in value if not _missing(part)]
        value = TAG_SEPARATOR.join(parts) if kind == "tags" else " ".join(parts)
    if _missing(value):
        return []
    if kind == "category":
        return [str(value)]
    if kind == "tags":
        tags = (tag.strip() for tag in str(value).split(TAG_SEPARATOR))
        return sorted({tag for tag in tags if tag})
    return sorted(set(_WORD.findall(str(value).casefold())))


def seconds(dates: pd.Series) -> NDArray[np.float64]:
    """Whole seconds since the epoch; NaN for what is no date."""
    # Of any year: nanoseconds end in 2262.
    found = dates.dt.as_unit("s").to_numpy("datetime64[s]")
    return np.where(np.isnat(found), np.nan, found.astype(np.int64))


def _numbers(values: pd.Series) -> NDArray[np.float64]:
    """A number per value, seconds since the epoch for a date; NaN for what is none."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return seconds(values)
    return np.asarray(pd.to_numeric(values, errors="coerce"), np.float64)


def _fitted(name: str, values: pd.Series, kind: Kind) -> Column | None:
    """What a column is read as; None where that tells nothing of anyone."""
    if kind == "number":
        numbers = _numbers(values)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return None
        inner = np.unique(np.quantile(numbers, np.arange(1, _BUCKETS) / _BUCKETS))
        return Column(name, kind, bounds=tuple(inner[inner > numbers.min()].tolist()))
    counts = Counter(token for value in values for token in _tokens(kind, value))
    most = _MAX_WORDS if kind == "text" else _MAX_CATEGORIES
    # What one entity alone has says no more than its id does.
    common = [token for token, count in counts.most_common(most) if count >= _MIN_COUNT]
    return Column(name, kind, vocabulary=tuple(sorted(common))) if common else None


def _encoded(column: Column, values: pd.Series) -> sparse.csr_matrix:
    if column.kind == "number":
        numbers = _numbers(values)
        entities = np.flatnonzero(np.isfinite(numbers))
        features = np.searchsorted(np.array(column.bounds), numbers[entities], side="right")
        weights: NDArray[np.float32] = np.ones(len(entities), np.float32)
    else:
        place = {token: position for position, token in enumerate(column.vocabulary)}
        found = [
            [place[token] for token in _tokens(column.kind, value) if token in place]
            for value in values
        ]
        lengths = np.array([len(one) for one in found], np.int64)
        entities = np.repeat(np.arange(len(found)), lengths)
        features = np.array([one for several in found for one in several], np.int64)
        weights = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
    return sparse.csr_matrix((weights, (entities, features)), shape=(len(values), column.size))
