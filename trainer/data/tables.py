"""Reads tables from untrusted CSV and Parquet files, and checks their columns, types and encoding.

Reading a file either returns a table or raises a :class:`DataError` that names the location of the
problem. :mod:`trainer.data.csv_reader` checks the lines of CSV files.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from trainer.data import csv_reader
from trainer.errors import DataError

# The names of types in error messages, with the functions that recognise each type.
_TYPES: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "numbers": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "bytes": (
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary),
        lambda kind: isinstance(kind, pa.UuidType),
    ),
    "dates": (pa.types.is_timestamp, pa.types.is_date),
    "booleans": (pa.types.is_boolean,),
}
# The valid types of columns that have a fixed meaning. Feature columns may have any type.
_VALID_TYPES = {
    "user_id": ("text", "numbers", "bytes"),
    "item_id": ("text", "numbers", "bytes"),
    "title": ("text", "numbers"),
    "timestamp": ("text", "numbers", "dates"),
    "rating": ("text", "numbers", "booleans"),
}
# The name that pandas gives to an unnamed index when it writes a file.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_MAX_SHOWN_CHARACTERS = 1000


def read(
    path: Path, required: Sequence[str], optional: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a table as :func:`read_arrow` does, and return it as a pandas table.

    Raises:
        DataError: as in :func:`read_arrow`.
    """
    table = read_arrow(path, required, optional)
    with file_errors(path):
        frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    return frame


def read_arrow(
    path: Path, required: Sequence[str], optional: Sequence[str] | None = None
) -> pa.Table:
    """Read a table from a file whose name ends in .csv or .parquet.

    The values of a CSV file are strings, exactly as in the file; a byte-order mark and empty lines
    are skipped. Dates in a column ``timestamp`` become seconds since the epoch.

    Args:
        path: the file.
        required: columns that the file must have.
        optional: columns that are read if the file has them; None for all columns.

    Raises:
        DataError: the file does not exist, cannot be read or is not UTF-8; a required column is
            missing; a column occurs twice or has a type that its name does not allow; a line is
            overlong, or has more or fewer values than the header.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path} cannot be read: the file name must end in .csv or .parquet")

    def choose_columns(names: Sequence[str]) -> list[str]:
        return _chosen_columns(path, names, required, optional)

    with file_errors(path):
        if path.suffix == ".csv":
            table = csv_reader.read(path, choose_columns)
        else:
            with pyarrow.parquet.ParquetFile(path) as file:
                table = file.read(columns=choose_columns(file.schema_arrow.names))
            # The pandas metadata is not needed, and as untrusted as the rest of the file.
            table = table.replace_schema_metadata()
        table = _with_plain_types(table, path)
        _check_utf8(table, path)
    return table


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn errors from NumPy, Arrow and the operating system into DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, pa.ArrowException) as error:
        message = " ".join(str(error).split())[:500]
        raise DataError(f"{path} cannot be read: {message}") from error


def location(path: Path, row: int) -> str:
    """Return the location of a row, counted from 0, like ``clicks.csv, line 2``."""
    if path.suffix == ".csv":
        return csv_reader.location(path, row + 2)
    if path.suffix == ".npy":
        return f"{path}, index {row}"
    return f"{path}, {'row' if path.suffix == '.parquet' else 'line'} {row + 1}"


def _chosen_columns(
    path: Path, names: Sequence[str], required: Sequence[str], optional: Sequence[str] | None
) -> list[str]:
    """Return the names of the columns to read, in the order of the file."""
    if missing := [name for name in required if name not in names]:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; "
            f"the columns are {', '.join(names)[:_MAX_SHOWN_CHARACTERS]}"
        )
    if optional is None:
        optional = [name for name in names if not _PANDAS_INDEX.fullmatch(name)]
    chosen = [name for name in names if name in required or name in optional]
    if duplicates := [name for name in chosen if names.count(name) > 1]:
        raise DataError(f"{path} has more than one column {duplicates[0]!r}")
    return chosen


def _with_plain_types(table: pa.Table, path: Path) -> pa.Table:
    """Check all types. Replace dictionaries with their values, and times with whole seconds."""
    for index, (name, dtype) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        column = table.column(index)
        if pa.types.is_dictionary(dtype):
            column = column.cast(dtype.value_type)
        valid = _VALID_TYPES.get(name)
        if valid and not (pa.types.is_null(column.type) or _is_one_of(column.type, *valid)):
            raise DataError(
                f"{path}, column {name}: the type must be {' or '.join(valid)}, "
                f"not {str(dtype)[:100]}"
            )
        if pa.types.is_timestamp(column.type) or (valid and _is_one_of(column.type, "dates")):
            column = column.cast(pa.timestamp("s"), safe=False)
        if name == "timestamp" and _is_one_of(column.type, "dates"):
            column = column.cast(pa.int64())
        table = table.set_column(index, name, column)
    return table


def _is_one_of(dtype: pa.DataType, *names: str) -> bool:
    return any(recognises(dtype) for name in names for recognises in _TYPES[name])


def _check_utf8(table: pa.Table, path: Path) -> None:
    """Raise DataError for the first text that is not UTF-8, which Arrow's readers accept."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        start = 0
        for chunk in column.chunks:
            if not _is_valid(chunk):
                row = next(i for i in range(len(chunk)) if not _is_valid(chunk.slice(i, 1)))
                raise DataError(
                    f"{location(path, start + row)}, column {name}: the text is not UTF-8; "
                    "save the file as UTF-8"
                )
            start += len(chunk)


def _is_valid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
