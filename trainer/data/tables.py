"""Tables from CSV and Parquet files that nobody vouches for.

Whatever is in a file, it ends as a table or as a :class:`DataError` that says where. A CSV file is
read in blocks, so that a line or a quoted value without an end costs no more than a block.
"""

import codecs
import csv
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from trainer.data.types import DataError

#: A CSV file's line may be as long as that, one that is twice as long is refused for certain.
MAX_LINE_BYTES = 1 << 20

_TYPES: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "numbers": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "bytes": (
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary),
        lambda kind: isinstance(kind, pa.UuidType),
    ),
    "dates": (pa.types.is_timestamp, pa.types.is_date),
    "truth": (pa.types.is_boolean,),
}
#: Columns that mean the same in every file, and what they may hold; features may hold anything.
_MAY_HOLD = {
    "user_id": ("text", "numbers", "bytes"),
    "item_id": ("text", "numbers", "bytes"),
    "title": ("text", "numbers"),
    "timestamp": ("text", "numbers", "dates"),
    "rating": ("text", "numbers", "truth"),
}
#: What pandas writes a row's name as.
_ROW_NAMES = re.compile(r"__index_level_\d+__")
_AT_ROW = re.compile(r"(?:CSV parse error: )?Row #(\d+): (.*)", re.DOTALL)
_WIDTH = re.compile(r"Expected (\d+) columns, got (\d+)")


def read(path: Path, required: Sequence[str], others: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table as :func:`read_arrow` does, for pandas.

    Raises:
        DataError: as there.
    """
    table = read_arrow(path, required, others)
    try:
        frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    except (ValueError, OverflowError, MemoryError, pa.ArrowException) as error:
        raise DataError(f"{path}: {in_a_line(error)}") from error
    return frame


def read_arrow(
    path: Path, required: Sequence[str], others: Sequence[str] | None = None
) -> pa.Table:
    """Read a table whose file name ends in .csv or .parquet.

    Values of a CSV file are text, as they are in the file; a byte-order mark is skipped, and so are
    empty lines. A column ``timestamp`` of dates becomes one of seconds since the epoch.

    Args:
        path: the file.
        required: columns that must be there.
        others: columns that are read where they are there; None for all of them.

    Raises:
        DataError: it cannot be read, is no such file or not UTF-8; a required column is missing,
            or a column is there twice or of a type that it cannot have; a line is longer than
            :data:`MAX_LINE_BYTES`, or has more or fewer values than the header.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path}: the name must end in .csv or .parquet")

    def chosen(names: Sequence[str]) -> list[str]:
        if missing := [name for name in required if name not in names]:
            raise DataError(
                f"{path}: no column {', '.join(missing)}; found: {', '.join(names)[:1000]}"
            )
        wanted = [
            name
            for name in names
            if name in required or (name in others if others is not None else _is_data(name))
        ]
        if twice := [name for name in wanted if names.count(name) > 1]:
            raise DataError(f"{path}: there is more than one column {twice[0]!r}")
        return wanted

    try:
        table = (_csv if path.suffix == ".csv" else _parquet)(path, chosen)
        table = _plain(table, path)
        _check_text(table, path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, OverflowError, MemoryError, pa.ArrowException) as error:
        raise DataError(f"{path}: {in_a_line(error)}") from error
    return table


def in_a_line(error: BaseException) -> str:
    """What an error says, of which Arrow's may be long, in one line."""
    return " ".join(str(error).split())[:500]


def place(path: Path, row: int) -> str:
    """Where a row of a table is: the file, and the line or the number, for people."""
    if path.suffix == ".csv":
        return _line(path, row + 2)
    return f"{path}, row {row + 1}"


def _is_data(name: str) -> bool:
    return not _ROW_NAMES.fullmatch(name)


def _parquet(path: Path, chosen: Callable[[Sequence[str]], list[str]]) -> pa.Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        table = file.read(columns=chosen(file.schema_arrow.names))
    # What another program noted down for pandas is not looked at.
    return table.replace_schema_metadata()


def _csv(path: Path, chosen: Callable[[Sequence[str]], list[str]]) -> pa.Table:
    # With threads it would not say which row is wrong.
    reading = pyarrow.csv.ReadOptions(block_size=MAX_LINE_BYTES, use_threads=False)
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    batches: list[pa.RecordBatch] = []
    end = b""
    with path.open("rb") as start:
        if start.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{path}, line 1: not UTF-8 but UTF-16")
    try:
        with pyarrow.csv.open_csv(path, reading, parsing) as file:
            *_, last = every = file.schema.names
        names = chosen(every)
        # Text once it is known to be UTF-8: see _check_text().
        converting = pyarrow.csv.ConvertOptions(
            include_columns=list(dict.fromkeys([*names, last])),
            column_types=dict.fromkeys(every, pa.binary()),
        )
        with pyarrow.csv.open_csv(path, reading, parsing, converting) as file:
            schema = pa.schema([file.schema.field(name) for name in names])
            for batch in file:
                batches.append(batch.select(names))
                end = batch[last][-1].as_py() if len(batch) else end
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line 1: not UTF-8: {error}") from error
    except pa.ArrowInvalid as error:
        raise _in_csv(path, str(error), sum(map(len, batches))) from error
    if _unclosed(path, end):
        raise DataError(f'{_line(path, sum(map(len, batches)) + 1)}: a quote " that is not closed')
    as_text = pyarrow.compute.CastOptions.unsafe(pa.string())
    table = pa.Table.from_batches(batches, schema)
    return pa.table([one.cast(options=as_text) for one in table.columns], names=names)


def _unclosed(path: Path, value: bytes) -> bool:
    """Whether ``value``, the last one, is all that comes after a quote: Arrow takes it as it is."""
    if not value.strip(b'"'):
        return False
    quoted = b'"' + value.replace(b'"', b'""')
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(quoted)))
        return file.read() == quoted


def _in_csv(path: Path, message: str, rows: int) -> DataError:
    """What Arrow says of a file of which ``rows`` rows were read."""
    if "straddling" in message:
        return DataError(
            f"{_line(path, rows + 1)}: after it, a line of more than {MAX_LINE_BYTES:,} bytes, "
            'or a quote " that is not closed'
        )
    if "mpty CSV file" in message:
        # That is also what it says of a header, or anything, without an end of line.
        size = path.stat().st_size
        if size > MAX_LINE_BYTES:
            return DataError(f"{path}, line 1: more than {MAX_LINE_BYTES:,} bytes")
        return DataError(f"{path}: no rows" if size else f"{path}: the file is empty")
    at = _AT_ROW.search(message)
    if at is None:
        return DataError(f"{path}: {message[:200]}")
    width = _WIDTH.match(at[2])
    what = f"{width[2]} values, the header has {width[1]} columns" if width else at[2][:200]
    return DataError(f"{_line(path, int(at[1]))}: {what}")


def _line(path: Path, record: int) -> str:
    """The line in which a record begins, the header being the first record."""
    found = before = 0
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
            reader = csv.reader(text)
            for values in reader:
                found += bool(values)
                if found == record:
                    return f"{path}, line {before + 1}"
                before = reader.line_num
    # A value that is too long for this reader.
    except (OSError, csv.Error):
        pass
    return f"{path}, row {record - 1}"


def _plain(table: pa.Table, path: Path) -> pa.Table:
    """Without dictionaries and time zones, times in whole seconds; no type that cannot be."""
    for at, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        column = table.column(at)
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        allowed = _MAY_HOLD.get(name)
        if allowed and not (pa.types.is_null(column.type) or _is(column.type, *allowed)):
            what = " or ".join(allowed)
            raise DataError(f"{path}, column {name}: {what} expected, not {str(kind)[:100]}")
        if pa.types.is_timestamp(column.type) or (allowed and _is(column.type, "dates")):
            column = column.cast(pa.timestamp("s"), safe=False)
        if name == "timestamp" and _is(column.type, "dates"):
            column = column.cast(pa.int64())
        table = table.set_column(at, name, column)
    return table


def _is(kind: pa.DataType, *names: str) -> bool:
    return any(test(kind) for name in names for test in _TYPES[name])


def _check_text(table: pa.Table, path: Path) -> None:
    """Neither reader looks whether text is UTF-8."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        start = 0
        for chunk in column.chunks:
            if not _valid(chunk):
                row = next(at for at in range(len(chunk)) if not _valid(chunk.slice(at, 1)))
                raise DataError(f"{place(path, start + row)}, column {name}: not UTF-8")
            start += len(chunk)


def _valid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
