"""Vectors that were made elsewhere: embeddings of items, their ids, and queries."""

from pathlib import Path
from tokenize import TokenError

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from serving_contract import MAX_ID_BYTES
from trainer.data import tables
from trainer.data.tables import MAX_LINE_BYTES, in_a_line
from trainer.data.types import DataError


def load(path: Path) -> NDArray[np.float32]:
    """Vectors, float32 [N, D], from NumPy's .npy or from the lists of a .parquet file.

    A Parquet file has them in a column ``vector`` or ``embedding``, or has one column only.

    Raises:
        DataError: the file cannot be read, holds something else, or a number that is not
            finite.
    """
    try:
        if path.suffix == ".npy":
            vectors: NDArray[np.generic] = _mapped(path)
        elif path.suffix == ".parquet":
            vectors = _from_lists(path)
        else:
            raise DataError(f"{path}: the name must end in .npy or .parquet")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: {in_a_line(error)}") from error
    if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: must hold numbers in rows and columns, not {vectors.dtype} "
            f"{list(vectors.shape)}"
        )
    with np.errstate(over="ignore"):  # Infinity is found below.
        found = np.ascontiguousarray(vectors, np.float32)
    for start in range(0, len(found), 100_000):
        some = found[start : start + 100_000]
        good = np.isfinite(np.einsum("nd,nd->n", some, some))
        if not good.all():
            raise DataError(
                f"{path}, row {start + int(np.argmin(good))}: not a finite number, or too large"
            )
    return found


def load_ids(path: Path) -> NDArray[np.bytes_]:
    """Ids in UTF-8, bytes [N].

    From a .txt file, one in each line; a .csv or .parquet file with a column ``item_id``; or an
    array of strings in NumPy's .npy.

    Raises:
        DataError: the file cannot be read; an id is empty, over 256 bytes, or there twice.
    """
    try:
        ids = _read_ids(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: {in_a_line(error)}") from error
    sizes = pa.compute.binary_length(ids).fill_null(0).to_numpy()
    if not len(ids):
        raise DataError(f"{path}: no ids")
    # NumPy's strings end at the last byte that is not zero.
    zero = pa.compute.ends_with(ids, pattern=b"\0").fill_null(False)
    bad = (sizes == 0) | (sizes > MAX_ID_BYTES) | zero.to_numpy(zero_copy_only=False)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{_place(path, row)}: an id is 1 to {MAX_ID_BYTES} bytes of text, the last not zero"
        )
    if len(ids.unique()) < len(ids):
        counts = ids.value_counts()
        twice = counts.field(0)[int(np.argmax(counts.field(1).to_numpy()))]
        raise DataError(f"{path}: id {twice.as_py().decode(errors='replace')!r} is there twice")
    found = np.empty(len(ids), f"S{int(sizes.max())}")
    for start in range(0, len(ids), 100_000):
        found[start : start + 100_000] = ids.slice(start, 100_000).to_pylist()
    return found


def _place(path: Path, row: int) -> str:
    """Where an id is: the line of a text, the row of a table, the position in an array."""
    if path.suffix == ".txt":
        return f"{path}, line {row + 1}"
    return f"{path}, row {row}" if path.suffix == ".npy" else tables.place(path, row)


def _mapped(path: Path) -> NDArray[np.generic]:
    """A .npy file's array; it is read once, in order."""
    try:
        with np.errstate(over="ignore"):
            found: NDArray[np.generic] = np.lib.format.open_memmap(path, mode="r")
    # Its header is a piece of Python, so whatever Python's own parser raises.
    except (
        TokenError,
        SyntaxError,
        TypeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise DataError(f"{path}: not an array of NumPy's: {error}") from error
    return found


def _check_lines(path: Path) -> None:
    """Refuse what has no end of line for very long, before it is in memory."""
    lines = 0
    with path.open("rb") as file:
        while block := file.read(MAX_LINE_BYTES):
            if len(block) == MAX_LINE_BYTES and b"\n" not in block:
                raise DataError(f"{path}, line {lines + 1}: more than {MAX_LINE_BYTES:,} bytes")
            lines += block.count(b"\n")


def _from_lists(path: Path) -> NDArray[np.generic]:
    with pyarrow.parquet.ParquetFile(path) as file:
        every = file.schema_arrow.names
        named = [name for name in ("vector", "embedding") if name in every]
        if not named and len(every) != 1:
            raise DataError(
                f"{path}: no column vector or embedding; found: {', '.join(every)[:1000]}"
            )
        (name,) = named[:1] or every
        if every.count(name) > 1:
            raise DataError(f"{path}: there is more than one column {name!r}")
        column = file.read(columns=[name])[0].combine_chunks()
    widths = pa.compute.list_value_length(column)
    low, high = pa.compute.min_max(widths).values()
    if column.null_count or low != high:
        raise DataError(f"{path}: the vectors are not all of one length")
    flat: NDArray[np.generic] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def _read_ids(path: Path) -> pa.Array:
    """Ids as Arrow's large_binary."""
    if path.suffix == ".npy":
        ids = _mapped(path)
        if ids.ndim != 1 or ids.dtype.kind not in "SUiu":
            raise DataError(f"{path}: must hold strings in a row, not {ids.dtype} {ids.shape}")
        column = pa.array(ids)
    elif path.suffix == ".txt":
        _check_lines(path)
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        whole = pa.array([text.removesuffix(b"\n")], pa.large_binary())
        column = pa.compute.split_pattern(whole, "\n").flatten()
    elif path.suffix in (".csv", ".parquet"):
        column = tables.read_arrow(path, ["item_id"], [])["item_id"]
    else:
        raise DataError(f"{path}: the name must end in .txt, .csv, .npy or .parquet")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        raise DataError(f"{path}: too many ids")
    # By way of text: what is not UTF-8 is an error here.
    return column.cast(pa.large_string()).cast(pa.large_binary())
