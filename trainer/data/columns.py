"""The kinds of feature columns. Each kind learns from a table column how to encode its values.

A new kind is a subclass of :class:`Column` and an entry in :data:`KINDS`.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

_TAG_SEPARATOR = "|"
_WORD = re.compile(r"\w+", re.UNICODE)
# A category, tag or word that only one entity has says no more than the entity's id.
_MIN_COUNT = 2
_MAX_VOCABULARY = 20_000
_NUMBER_OF_BUCKETS = 20
# The types that lists have in Parquet columns and in tables built by Python code.
_LIST_TYPES = (list, tuple, np.ndarray)


@dataclass(frozen=True)
class Column(ABC):
    """One column of a table, encoded as ``size`` features.

    A subclass is a frozen dataclass. Its fields hold what it learnt from the table, as numbers,
    strings, or tuples of numbers or strings. They are stored with a version as JSON.

    Attributes:
        name: the name of the column.
    """

    kind: ClassVar[str]
    name: str

    @classmethod
    @abstractmethod
    def recognises(cls, values: pd.Series, texts: list[str]) -> bool:
        """Return True if a column is probably of this kind.

        Args:
            values: the column.
            texts: the values that are not missing, as strings.
        """

    @classmethod
    @abstractmethod
    def fit(cls, name: str, values: pd.Series) -> Self | None:
        """Learn from a column; return None if there is nothing to learn."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of features."""

    @abstractmethod
    def encode(self, values: pd.Series) -> sparse.csr_matrix:
        """Encode N values as float32 [N, size]. Unknown and missing values become rows of zeros."""

    def as_dict(self) -> dict[str, Any]:
        """Return the column as JSON-serializable values."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a column from :meth:`as_dict`, ignoring keys that this kind does not have."""
        state: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value = values[field.name]
            state[field.name] = tuple(value) if isinstance(value, list) else value
        return cls(**state)


@dataclass(frozen=True)
class NumberColumn(Column):
    """Numbers, and dates as seconds since the epoch, in up to 20 buckets of equal frequency.

    Attributes:
        bounds: the lower bounds of all buckets but the first, ascending.
    """

    kind = "number"
    bounds: tuple[float, ...]

    @classmethod
    def recognises(cls, values: pd.Series, texts: list[str]) -> bool:
        if pd.api.types.is_datetime64_any_dtype(values):
            return True
        # A column with only two different numbers, such as 0 and 1, is a category.
        return (
            not _has_lists(values)
            and len(set(texts)) > 2
            and bool(pd.to_numeric(pd.Series(texts), errors="coerce").notna().all())
        )

    @classmethod
    def fit(cls, name: str, values: pd.Series) -> Self | None:
        numbers = _numbers(values)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return None
        shares = np.arange(1, _NUMBER_OF_BUCKETS) / _NUMBER_OF_BUCKETS
        bounds = np.unique(np.quantile(numbers, shares))
        # A bound at the minimum would leave the first bucket empty.
        return cls(name, tuple(bounds[bounds > numbers.min()].tolist()))

    @property
    def size(self) -> int:
        return len(self.bounds) + 1

    def encode(self, values: pd.Series) -> sparse.csr_matrix:
        numbers = _numbers(values)
        rows = np.flatnonzero(np.isfinite(numbers))
        buckets = np.searchsorted(np.array(self.bounds), numbers[rows], side="right")
        ones = np.ones(len(rows), np.float32)
        return sparse.csr_matrix((ones, (rows, buckets)), shape=(len(values), self.size))


@dataclass(frozen=True)
class _TokenColumn(Column):
    """Base class for kinds that split a value into tokens, with one feature for each token.

    A value with n tokens has n features of 1 / sqrt(n), so that its feature vector has length 1.

    Attributes:
        vocabulary: the most frequent tokens, in alphabetical order; each is a feature.
    """

    vocabulary: tuple[str, ...]

    @classmethod
    @abstractmethod
    def tokens(cls, value: object) -> list[str]:
        """Return the distinct tokens of a value. A missing value has none."""

    @classmethod
    def fit(cls, name: str, values: pd.Series) -> Self | None:
        counts = Counter(token for value in values for token in cls.tokens(value))
        common = counts.most_common(_MAX_VOCABULARY)
        vocabulary = tuple(sorted(token for token, count in common if count >= _MIN_COUNT))
        return cls(name, vocabulary) if vocabulary else None

    @property
    def size(self) -> int:
        return len(self.vocabulary)

    def encode(self, values: pd.Series) -> sparse.csr_matrix:
        positions = {token: position for position, token in enumerate(self.vocabulary)}
        features = [
            [positions[token] for token in self.tokens(value) if token in positions]
            for value in values
        ]
        lengths = np.array([len(tokens) for tokens in features], np.int64)
        rows = np.repeat(np.arange(len(features)), lengths)
        columns = np.array([position for tokens in features for position in tokens], np.int64)
        weights = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
        return sparse.csr_matrix((weights, (rows, columns)), shape=(len(values), self.size))


@dataclass(frozen=True)
class TagsColumn(_TokenColumn):
    """Lists of tags, or texts that contain tags separated by ``|``."""

    kind = "tags"

    @classmethod
    def recognises(cls, values: pd.Series, texts: list[str]) -> bool:
        return _has_lists(values) or any(_TAG_SEPARATOR in text for text in texts)

    @classmethod
    def tokens(cls, value: object) -> list[str]:
        tags = (tag.strip() for tag in _joined(value, _TAG_SEPARATOR).split(_TAG_SEPARATOR))
        return sorted({tag for tag in tags if tag})


@dataclass(frozen=True)
class CategoryColumn(_TokenColumn):
    """Values of which each is one category."""

    kind = "category"

    @classmethod
    def recognises(cls, values: pd.Series, texts: list[str]) -> bool:  # noqa: ARG003
        # Values that rarely recur are not categories; they may still share words.
        return len(set(texts)) <= max(2, len(texts) / 2)

    @classmethod
    def tokens(cls, value: object) -> list[str]:
        text = _joined(value, " ")
        return [text] if text else []


@dataclass(frozen=True)
class TextColumn(_TokenColumn):
    """Texts that are encoded as sets of words, ignoring case."""

    kind = "text"

    @classmethod
    def recognises(cls, values: pd.Series, texts: list[str]) -> bool:  # noqa: ARG003
        return True

    @classmethod
    def tokens(cls, value: object) -> list[str]:
        return sorted(set(_WORD.findall(_joined(value, " ").casefold())))


#: All kinds by name. A column whose kind is not given gets the first kind that recognises it.
KINDS: Mapping[str, type[Column]] = {
    column.kind: column for column in (NumberColumn, TagsColumn, CategoryColumn, TextColumn)
}


def fit(name: str, values: pd.Series, kind: str | None) -> Column | None:
    """Learn from a column as :meth:`Column.fit` does; guess the kind if it is None."""
    if kind is None:
        texts = [str(value) for value in values if not _is_missing(value)]
        kind = next(name for name, column in KINDS.items() if column.recognises(values, texts))
    return KINDS[kind].fit(name, values)


def seconds_since_epoch(dates: pd.Series) -> NDArray[np.float64]:
    """Return dates as whole seconds since the epoch; NaN for a missing date."""
    # Seconds, because nanoseconds overflow in the year 2262.
    times = dates.dt.as_unit("s").to_numpy("datetime64[s]")
    return np.where(np.isnat(times), np.nan, times.astype(np.int64))


def _numbers(values: pd.Series) -> NDArray[np.float64]:
    """Return numbers as they are, dates as seconds since the epoch, and other values as NaN."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return seconds_since_epoch(values)
    return np.asarray(pd.to_numeric(values, errors="coerce"), np.float64)


def _has_lists(values: pd.Series) -> bool:
    return any(isinstance(value, _LIST_TYPES) for value in values)


def _is_missing(value: object) -> bool:
    # A list is never missing. For a list, pandas.isna would return a result for each element.
    return not isinstance(value, _LIST_TYPES) and (bool(pd.isna(value)) or str(value) == "")  # type: ignore[call-overload]


def _joined(value: object, separator: str) -> str:
    """Return a value as a string, and the elements of a list joined by ``separator``.

    Missing values and elements become empty strings.
    """
    elements = value if isinstance(value, _LIST_TYPES) else [value]
    return separator.join(str(element) for element in elements if not _is_missing(element))
