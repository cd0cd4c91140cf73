"""Columns of users or items as sparse rows: what an id that nobody has met is known by.

Every column becomes a few of F features: a category, tags, a bucket of a number, the words of
a text. One entity's row holds 1 / sqrt(n) for each of the n features that it has of a column,
so that no column outweighs another by having many.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

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
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True)
class Column:
    """A column and how it is read.

    Attributes:
        name: of the column.
        kind: category, tags separated by ``|``, number, or text.
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
    columns = []
    for name, kind in _named(table, wanted, what):
        column = _fitted(name, table[name], kind or _guess(table[name]))
        if column.size:
            columns.append(column)
    return FeatureEncoder(tuple(columns))


def _named(
    table: pd.DataFrame, wanted: Sequence[str], what: str
) -> Iterable[tuple[str, Kind | None]]:
    for text in wanted:
        if text == AUTO:
            yield from ((str(name), None) for name in table.columns)
            continue
        name, _, kind = text.partition(":")
        if name not in table:
            raise DataError(
                f"{what} have no column {name!r}; there are: {', '.join(map(str, table.columns))}"
            )
        if kind and kind not in get_args(Kind):
            raise DataError(f"{text!r}: a column is one of {', '.join(get_args(Kind))}")
        yield name, kind or None  # type: ignore[misc]


def _guess(values: pd.Series) -> Kind:
    texts = _texts(values)
    if not texts:
        return "category"
    if pd.to_numeric(pd.Series(texts), errors="coerce").notna().all() and len(set(texts)) > 2:
        return "number"
    if any(TAG_SEPARATOR in text for text in texts):
        return "tags"
    # What hardly ever recurs tells only by its words.
    return "category" if len(set(texts)) <= len(texts) / 2 else "text"


def _texts(values: pd.Series) -> list[str]:
    """The values that are there."""
    return [str(value) for value in values if pd.notna(value) and str(value) != ""]


def _tokens(kind: Kind, value: object) -> list[str]:
    if pd.isna(value) or str(value) == "":  # type: ignore[call-overload]
        return []
    if kind == "category":
        return [str(value)]
    if kind == "tags":
        tags = (tag.strip() for tag in str(value).split(TAG_SEPARATOR))
        return sorted({tag for tag in tags if tag})
    return sorted(set(_WORD.findall(str(value).casefold())))


def _fitted(name: str, values: pd.Series, kind: Kind) -> Column:
    if kind == "number":
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return Column(name, kind, bounds=())
        inner = np.unique(np.quantile(numbers, np.arange(1, _BUCKETS) / _BUCKETS))
        return Column(name, kind, bounds=tuple(inner[inner > numbers.min()].tolist()))
    counts = Counter(token for value in values for token in _tokens(kind, value))
    most = _MAX_WORDS if kind == "text" else _MAX_CATEGORIES
    # What one entity alone has says no more than its id does.
    common = [token for token, count in counts.most_common(most) if count >= _MIN_COUNT]
    return Column(name, kind, vocabulary=tuple(sorted(common)))


def _encoded(column: Column, values: pd.Series) -> sparse.csr_matrix:
    if column.kind == "number":
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
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
