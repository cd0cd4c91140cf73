"""Reads CSV files with Arrow, and reports the line of a problem.

The reader refuses a line with the wrong number of fields, an overlong line, a quote that is never
closed, a file without rows and a header that is not UTF-8. A file is read in blocks, so that an
endless line or quoted value takes no more memory than one block.
"""

import codecs
import csv
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from trainer.errors import DataError

#: Lines of a CSV file up to this length can be read; lines of twice this length never can.
MAX_LINE_BYTES = 1 << 20

_ARROW_ROW_ERROR = re.compile(r"(?:CSV parse error: )?Row #(\d+): (.*)", re.DOTALL)
_ARROW_WIDTH_ERROR = re.compile(r"Expected (\d+) columns, got (\d+)")
_MAX_SHOWN_CHARACTERS = 200


def read(path: Path, choose_columns: Callable[[Sequence[str]], list[str]]) -> pa.Table:
    """Read columns of a CSV file as strings, exactly as they are in the file.

    The caller must check that the strings are valid UTF-8.

    Args:
        path: the file.
        choose_columns: returns the names of the columns to read, given all names in the header.

    Raises:
        DataError: the file is malformed; the message names the line.
    """
    # Arrow reports the row of an error only if it uses a single thread.
    read_options = pyarrow.csv.ReadOptions(block_size=MAX_LINE_BYTES, use_threads=False)
    parse_options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    batches: list[pa.RecordBatch] = []
    last_value = b""
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(f"{path}, line 1: the file is UTF-16; save it as UTF-8")
    try:
        with pyarrow.csv.open_csv(path, read_options, parse_options) as reader:
            all_names = reader.schema.names
        names = choose_columns(all_names)
        # Read bytes instead of text, so that the caller can report which value is not UTF-8.
        convert_options = pyarrow.csv.ConvertOptions(
            include_columns=list(dict.fromkeys([*names, all_names[-1]])),
            column_types=dict.fromkeys(all_names, pa.binary()),
        )
        with pyarrow.csv.open_csv(path, read_options, parse_options, convert_options) as reader:
            schema = pa.schema([reader.schema.field(name) for name in names])
            for batch in reader:
                batches.append(batch.select(names))
                last_value = batch[all_names[-1]][-1].as_py() if len(batch) else last_value
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line 1: the header is not UTF-8: {error}") from error
    except pa.ArrowInvalid as error:
        raise _data_error(path, str(error), sum(map(len, batches))) from error
    if _last_quote_is_open(path, last_value):
        last_record = sum(map(len, batches)) + 1
        raise DataError(f'{location(path, last_record)}: a quote (") is never closed')
    as_text = pyarrow.compute.CastOptions.unsafe(pa.string())
    table = pa.Table.from_batches(batches, schema)
    return pa.table([column.cast(options=as_text) for column in table.columns], names=names)


def location(path: Path, record: int) -> str:
    """Return the file and the line in which a record begins; record 1 is the header."""
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


def _last_quote_is_open(path: Path, last_value: bytes) -> bool:
    """Return True if the file ends inside a quoted value, which Arrow accepts silently.

    Arrow then returns the rest of the file as the last value, so the file ends with an opening
    quote and that value.
    """
    if not last_value.strip(b'"'):
        return False
    quoted = b'"' + last_value.replace(b'"', b'""')
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(quoted)))
        return file.read() == quoted


def _data_error(path: Path, message: str, rows: int) -> DataError:
    """Return the DataError for the message of an Arrow error after ``rows`` rows were read."""
    if "straddling" in message:
        return DataError(
            f"{location(path, rows + 1)}: this line is followed by a line of more than "
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
        return DataError(f"{path} cannot be read: {message[:_MAX_SHOWN_CHARACTERS]}")
    record, problem = int(row_error[1]), row_error[2][:_MAX_SHOWN_CHARACTERS]
    if width := _ARROW_WIDTH_ERROR.match(problem):
        problem = f"expected {width[1]} values as in the header, but found {width[2]}"
    return DataError(f"{location(path, record)}: {problem}")
