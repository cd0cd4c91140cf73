"""Reads tables from untrusted CSV and Parquet files.

Reading a file either returns a table or raises a :class:`DataError` that names the place of the
problem. CSV files are read in blocks, so that an endless line or quoted value takes no more memory
than one block.
"""

import codecs
import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from trainer.errors import DataError

#: Lines of a CSV file up to this length can be read; lines of twice this length never can.
MAX_LINE_BYTES = 1 << 20

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
#: Valid types of the columns that have a fixed meaning. Feature columns may have any type.
_VALID_TYPES = {
    "user_id": ("text", "numbers", "bytes"),
    "item_id": ("text", "numbers", "bytes"),
    "title": ("text", "numbers"),
    "timestamp": ("text", "numbers", "dates"),
    "rating": ("text", "numbers", "booleans"),
}
#: The name that pandas gives to an unnamed index when it writes a file.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_ARROW_ROW_ERROR = re.compile(r"(?:CSV parse error: )?Row #(\d+): (.*)", re.DOTALL)
_ARROW_WIDTH_ERROR = re.compile(r"Expected (\d+) columns, got (\d+)")
_MAX_SHOWN_CHARACTERS = 1000

ColumnChooser = Callable[[Sequence[str]], list[str]]


def read(
    path: Path, required: Sequence[str], optional: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a table as :func:`read_arrow` does, with its errors, and return it as a pandas table."""
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
            longer than :data:`MAX_LINE_BYTES`, or has more or fewer values than the header.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path} cannot be read: the file name must end in .csv or .parquet")

    def choose(names: Sequence[str]) -> list[str]:
        if missing := [name for name in required if name not in names]:
            raise DataError(
                f"{path} has no column {', '.join(missing)}; "
                f"the columns are {', '.join(names)[:_MAX_SHOWN_CHARACTERS]}"
            )
        chosen = [
            name
            for name in names
            if name in required
            or (name in optional if optional is not None else not _PANDAS_INDEX.fullmatch(name))
        ]
        if duplicates := [name for name in chosen if names.count(name) > 1]:
            raise DataError(f"{path} has more than one column {duplicates[0]!r}")
        return chosen

    with file_errors(path):
        table = (_read_csv if path.suffix == ".csv" else _read_parquet)(path, choose)
        table = _with_plain_types(table, path)
        _check_utf8(table, path)
    return table


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn the errors of NumPy, Arrow and the operating system into DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, pa.ArrowException) as error:
        message = " ".join(str(error).split())[:500]
        raise DataError(f"{path} cannot be read: {message}") from error


def place(path: Path, row: int) -> str:
    """Return where row number ``row``, counted from 0, is in a file: ``clicks.csv, line 2``."""
    if path.suffix == ".csv":
        return _csv_place(path, row + 2)
    return f"{path}, row {row + 1}"


def _read_parquet(path: Path, choose: ColumnChooser) -> pa.Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        table = file.read(columns=choose(file.schema_arrow.names))
    # Metadata for pandas is as untrusted as the rest of the file, and not needed.
    return table.replace_schema_metadata()


def _read_csv(path: Path, choose: ColumnChooser) -> pa.Table:
    # Arrow reports the row of an error only if it uses a single thread.
    read_options = pyarrow.csv.ReadOptions(block_size=MAX_LINE_BYTES, use_threads=False)
    parse_options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    batches: list[pa.RecordBatch] = []
    last_value = b""
    with path.open("rb") as prefix:
        if prefix.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{path}, line 1: the file is UTF-16; save it as UTF-8")
    try:
        with pyarrow.csv.open_csv(path, read_options, parse_options) as file:
            all_names = file.schema.names
        names = choose(all_names)
        # Read bytes instead of text, so that _check_utf8() can report where they are not UTF-8.
        convert_options = pyarrow.csv.ConvertOptions(
            include_columns=list(dict.fromkeys([*names, all_names[-1]])),
            column_types=dict.fromkeys(all_names, pa.binary()),
        )
        with pyarrow.csv.open_csv(path, read_options, parse_options, convert_options) as file:
            schema = pa.schema([file.schema.field(name) for name in names])
            for batch in file:
                batches.append(batch.select(names))
                last_value = batch[all_names[-1]][-1].as_py() if len(batch) else last_value
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line 1: the header is not UTF-8: {error}") from error
    except pa.ArrowInvalid as error:
        raise _csv_error(path, str(error), sum(map(len, batches))) from error
    if _is_unclosed(path, last_value):
        record = sum(map(len, batches)) + 1
        raise DataError(f'{_csv_place(path, record)}: a quote (") is never closed')
    as_text = pyarrow.compute.CastOptions.unsafe(pa.string())
    table = pa.Table.from_batches(batches, schema)
    return pa.table([column.cast(options=as_text) for column in table.columns], names=names)


def _is_unclosed(path: Path, last_value: bytes) -> bool:
    """Return True if the last quote of the file is not closed, which Arrow accepts silently."""
    if not last_value.strip(b'"'):
        return False
    quoted = b'"' + last_value.replace(b'"', b'""')
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(quoted)))
        return file.read() == quoted


def _csv_error(path: Path, message: str, rows: int) -> DataError:
    """Translate an error that Arrow raised after it had read ``rows`` rows."""
    if "straddling" in message:
        return DataError(
            f"{_csv_place(path, rows + 1)}: it is followed by a line of more than "
            f'{MAX_LINE_BYTES:,} bytes, or by a quote (") that is never closed'
        )
    if "mpty CSV file" in message:
        # Arrow reports the same error for a file without any line break.
        size_bytes = path.stat().st_size
        if size_bytes > MAX_LINE_BYTES:
            return DataError(f"{path}, line 1: the line has more than {MAX_LINE_BYTES:,} bytes")
        return DataError(f"{path} has no rows" if size_bytes else f"{path}: the file is empty")
    row_error = _ARROW_ROW_ERROR.search(message)
    if row_error is None:
        return DataError(f"{path} cannot be read: {message[:200]}")
    width = _ARROW_WIDTH_ERROR.match(row_error[2])
    problem = (
        f"the line has {width[2]} values, but the header has {width[1]} columns"
        if width
        else row_error[2][:200]
    )
    return DataError(f"{_csv_place(path, int(row_error[1]))}: {problem}")


def _csv_place(path: Path, record: int) -> str:
    """Return the line in which a record begins; record 1 is the header."""
    records = previous_line = 0
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
            reader = csv.reader(text)
            for values in reader:
                records += bool(values)
                if records == record:
                    return f"{path}, line {previous_line + 1}"
                previous_line = reader.line_num
    # The csv module rejects very long values.
    except (OSError, csv.Error):
        pass
    return f"{path}, row {record - 1}"


def _with_plain_types(table: pa.Table, path: Path) -> pa.Table:
    """Replace dictionaries by their values, and times by whole seconds; check all types."""
    for number, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        column = table.column(number)
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        valid = _VALID_TYPES.get(name)
        if valid and not (pa.types.is_null(column.type) or _is_one_of(column.type, *valid)):
            raise DataError(
                f"{path}, column {name}: the type must be {' or '.join(valid)}, "
                f"not {str(kind)[:100]}"
            )
        if pa.types.is_timestamp(column.type) or (valid and _is_one_of(column.type, "dates")):
            column = column.cast(pa.timestamp("s"), safe=False)
        if name == "timestamp" and _is_one_of(column.type, "dates"):
            column = column.cast(pa.int64())
        table = table.set_column(number, name, column)
    return table


def _is_one_of(kind: pa.DataType, *names: str) -> bool:
    return any(test(kind) for name in names for test in _TYPES[name])


def _check_utf8(table: pa.Table, path: Path) -> None:
    """Raise DataError for the first text that is not UTF-8; Arrow's readers do not check it."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        start = 0
        for chunk in column.chunks:
            if not _is_valid(chunk):
                row = next(i for i in range(len(chunk)) if not _is_valid(chunk.slice(i, 1)))
                raise DataError(
                    f"{place(path, start + row)}, column {name}: the text is not UTF-8; "
                    "save the file as UTF-8"
                )
            start += len(chunk)


def _is_valid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
