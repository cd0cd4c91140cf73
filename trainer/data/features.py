"""Encodes user or item columns as sparse rows, so that ids without training rows can be embedded.

Every column becomes a block of the F features, as its kind in :mod:`trainer.data.columns` defines.
An entity's features in one block have at most length 1, so that no column outweighs another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from config_fields import suggestion
from trainer.data import columns
from trainer.data.columns import KINDS, Column
from trainer.errors import DataError

# The name that stands for all columns.
AUTO = "auto"


@dataclass(frozen=True)
class FeatureEncoder:
    """Columns learnt from one table, which encode any table with the same columns."""

    columns: tuple[Column, ...]

    @property
    def size(self) -> int:
        """F, the number of features."""
        return sum(column.size for column in self.columns)

    def encode(self, table: pd.DataFrame) -> sparse.csr_matrix:
        """Encode one row per entity as float32 [entities, F]; unknown values have no feature."""
        blocks = [column.encode(table[column.name]) for column in self.columns]
        if not blocks:
            return sparse.csr_matrix((len(table), 0), dtype=np.float32)
        return sparse.hstack(blocks, format="csr", dtype=np.float32)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the columns as JSON-serializable values."""
        return [column.as_dict() for column in self.columns]

    @classmethod
    def from_list(cls, stored: Sequence[Mapping[str, Any]]) -> "FeatureEncoder":
        """Restore an encoder from :meth:`as_list`."""
        return cls(tuple(KINDS[column["kind"]].from_dict(column) for column in stored))


def fit(table: pd.DataFrame | None, specs: Sequence[str], entities: str) -> FeatureEncoder:
    """Learn vocabularies and buckets from ``table``.

    Args:
        table: one row per entity; None if the data has no such table.
        specs: ``NAME:KIND`` for each column, or ``NAME`` to guess the kind from the values;
            ``auto`` stands for all columns.
        entities: ``items`` or ``users``, for error messages.

    Raises:
        DataError: there is no such column or kind.
    """
    setting = f"model.{entities.removesuffix('s')}_features"
    if table is None:
        if named := [name for name in specs if name != AUTO]:
            raise DataError(
                f"{setting} names the column {', '.join(named)}, but the data has no table of "
                f"{entities}; pass a file with --{entities}"
            )
        return FeatureEncoder(())
    fitted = (
        columns.fit(name, table[name], kind)
        for name, kind in _kinds_by_column(table, specs, entities, setting).items()
    )
    return FeatureEncoder(tuple(column for column in fitted if column is not None))


def _kinds_by_column(
    table: pd.DataFrame, specs: Sequence[str], entities: str, setting: str
) -> dict[str, str | None]:
    """Return the kind of each column in ``specs``; None means that the kind is guessed."""
    names = [str(name) for name in table.columns]
    kinds: dict[str, str | None] = dict.fromkeys(names) if AUTO in specs else {}
    for spec in specs:
        if spec == AUTO:
            continue
        name, kind = spec, None
        # The name of a column may contain a colon.
        if ":" in spec and spec not in table:
            name, _, kind = spec.rpartition(":")
        if name not in table:
            raise DataError(
                f"{setting}: {entities} have no column {name!r}{suggestion(name, names)}; "
                f"the columns are {', '.join(names)}"
            )
        if kind is not None and kind not in KINDS:
            raise DataError(
                f"{setting}: {spec!r} names an unknown kind of column; "
                f"the kinds are {', '.join(KINDS)}"
            )
        kinds[name] = kind
    return kinds
