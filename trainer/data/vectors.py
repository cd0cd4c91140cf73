"""Reads embeddings from other programs: item vectors, item ids and query vectors."""

from pathlib import Path
from tokenize import TokenError

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from serving_contract import MAX_ID_BYTES
from trainer.data import tables
from trainer.data.csv_reader import MAX_LINE_BYTES
from trainer.data.tables import file_errors
from trainer.errors import DataError

_VECTOR_COLUMNS = ("vector", "embedding")
_CHUNK_ROWS = 100_000


def load(path: Path) -> NDArray[np.float32]:
    """Read vectors, float32 [N, D], from a NumPy file (.npy) or a Parquet file (.parquet).

    A Parquet file has a column of lists that is named ``vector`` or ``embedding``, or that is its
    only column.

    Raises:
        DataError: the file cannot be read, does not hold vectors, or holds a number that is not
            finite.
    """
    with file_errors(path):
        if path.suffix == ".npy":
            vectors: NDArray[np.generic] = _load_numpy(path)
        elif path.suffix == ".parquet":
            vectors = _load_lists(path)
        else:
            raise DataError(f"{path} cannot be read: the file name must end in .npy or .parquet")
    if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
        raise DataError(
            f"{path} must hold a two-dimensional array of numbers, one row per vector, "
            f"not {vectors.dtype} {list(vectors.shape)}"
        )
    with np.errstate(over="ignore"):  # Overflow to infinity is reported below.
        float_vectors = np.ascontiguousarray(vectors, np.float32)
    for start in range(0, len(float_vectors), _CHUNK_ROWS):
        chunk = float_vectors[start : start + _CHUNK_ROWS]
        # The squared length of a vector is finite only if all of its numbers are finite.
        finite = np.isfinite(np.einsum("nd,nd->n", chunk, chunk))
        if not finite.all():
            raise DataError(
                f"{tables.location(path, start + int(np.argmin(finite)))}: the vector has a number "
                "that is not finite or is too large"
            )
    return float_vectors


def load_ids(path: Path) -> NDArray[np.bytes_]:
    """Read ids as UTF-8 bytes [N].

    A .txt file has one id per line, a .csv or .parquet file a column ``item_id``, and a NumPy file
    (.npy) a one-dimensional array of strings.

    Raises:
        DataError: the file cannot be read; an id is empty, longer than 256 bytes, or occurs twice.
    """
    with file_errors(path):
        ids = _read_ids(path)
    sizes = pa.compute.binary_length(ids).fill_null(0).to_numpy()
    if not len(ids):
        raise DataError(f"{path} has no ids")
    # NumPy byte strings drop trailing zero bytes.
    ends_in_zero = pa.compute.ends_with(ids, pattern=b"\0").fill_null(False)
    invalid = (sizes == 0) | (sizes > MAX_ID_BYTES) | ends_in_zero.to_numpy(zero_copy_only=False)
    if invalid.any():
        raise DataError(
            f"{tables.location(path, int(np.argmax(invalid)))}: an id must be text of 1 to "
            f"{MAX_ID_BYTES} bytes that does not end in a zero byte"
        )
    if len(ids.unique()) < len(ids):
        counts = ids.value_counts()
        duplicate = counts.field(0)[int(np.argmax(counts.field(1).to_numpy()))]
        raise DataError(
            f"{path}: the id {duplicate.as_py().decode(errors='replace')!r} occurs more than once"
        )
    id_bytes = np.empty(len(ids), f"S{int(sizes.max())}")
    for start in range(0, len(ids), _CHUNK_ROWS):
        id_bytes[start : start + _CHUNK_ROWS] = ids.slice(start, _CHUNK_ROWS).to_pylist()
    return id_bytes


def _load_numpy(path: Path) -> NDArray[np.generic]:
    """Memory-map a .npy file, because the file is read once and in order."""
    try:
        with np.errstate(over="ignore"):
            array: NDArray[np.generic] = np.lib.format.open_memmap(path, mode="r")
    # The header is a Python literal, so a malformed header raises errors from Python's parser.
    except (
        TokenError,
        SyntaxError,
        TypeError,
        ArithmeticError,
        MemoryError,
        RecursionError,
    ) as error:
        raise DataError(f"{path} is not a valid NumPy file: {error}") from error
    return array


def _check_line_lengths(path: Path) -> None:
    """Raise DataError for a file with an overlong line, before it is read into memory."""
    lines = 0
    with path.open("rb") as file:
        while block := file.read(MAX_LINE_BYTES):
            if len(block) == MAX_LINE_BYTES and b"\n" not in block:
                raise DataError(
                    f"{path}, line {lines + 1}: the line has more than {MAX_LINE_BYTES:,} bytes"
                )
            lines += block.count(b"\n")


def _load_lists(path: Path) -> NDArray[np.generic]:
    """Read the column of vectors from a Parquet file, [N, D]."""
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        matching = [name for name in _VECTOR_COLUMNS if name in names]
        if not matching and len(names) != 1:
            raise DataError(
                f"{path} has no column {' or '.join(_VECTOR_COLUMNS)}; "
                f"the columns are {', '.join(names)[:1000]}"
            )
        (name,) = matching[:1] or names
        if names.count(name) > 1:
            raise DataError(f"{path} has more than one column {name!r}")
        column = file.read(columns=[name])[0].combine_chunks()
    lengths = pa.compute.list_value_length(column)
    shortest, longest = pa.compute.min_max(lengths).values()
    if column.null_count or shortest != longest:
        raise DataError(
            f"{path}, column {name}: all vectors must have the same number of dimensions"
        )
    flat: NDArray[np.generic] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def _read_ids(path: Path) -> pa.Array:
    """Read the ids as UTF-8 bytes, an Arrow array of large_binary, without checking their sizes."""
    if path.suffix == ".npy":
        ids = _load_numpy(path)
        if ids.ndim != 1 or ids.dtype.kind not in "SUiu":
            raise DataError(
                f"{path} must hold a one-dimensional array of strings or whole numbers, "
                f"not {ids.dtype} {list(ids.shape)}"
            )
        column = pa.array(ids)
    elif path.suffix == ".txt":
        _check_line_lengths(path)
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        content = pa.array([text.removesuffix(b"\n")], pa.large_binary())
        column = pa.compute.split_pattern(content, "\n").flatten()
    elif path.suffix in (".csv", ".parquet"):
        column = tables.read_arrow(path, ["item_id"], [])["item_id"]
    else:
        raise DataError(
            f"{path} cannot be read: the file name must end in .txt, .csv, .npy or .parquet"
        )
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        raise DataError(f"{path} has more ids than fit into one Arrow array")
    # The cast to text raises an error for bytes that are not UTF-8.
    return column.cast(pa.large_string()).cast(pa.large_binary())
