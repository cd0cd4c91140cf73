"""Draws random clustered vectors and finds their exact neighbours, block by block.

Cluster centres are Gaussian. Each vector is a randomly chosen centre plus Gaussian noise, scaled to
length 1. Queries are drawn in the same way and are not among the vectors. The vectors depend only
on the `Shape`: a larger set begins with the vectors of a smaller set that has the same clusters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

#: The files that :func:`write` creates.
VECTORS, IDS, TUNING, QUERIES, TRUTH = (
    f"{name}.npy" for name in ("vectors", "ids", "tuning", "queries", "truth")
)
#: The number of exact neighbours per query.
K = 100

_BLOCK = 65_536
#: Numbers of independent random streams.
_VECTORS_STREAM, _TUNING_STREAM, _QUERIES_STREAM = range(3)


@dataclass(frozen=True)
class Shape:
    """The parameters from which a set of vectors is drawn.

    Attributes:
        vectors: the number of vectors.
        dims: the number of dimensions.
        clusters: the number of clusters; 0 means one per 1,000 vectors.
        noise: the standard deviation around a centre. The centres have a standard deviation of 1.
        queries: the number of queries for measuring, and also of queries for tuning.
    """

    vectors: int
    dims: int
    clusters: int = 0
    noise: float = 0.6
    queries: int = 0


def clustered(
    shape: Shape, count: int | None = None, stream: int = _VECTORS_STREAM
) -> Iterator[Vectors]:
    """Yield ``count`` unit-length vectors from one stream, in blocks float32 [<= 65,536, D]."""
    clusters = shape.clusters or max(1, shape.vectors // 1_000)
    # Drawing float32 numbers avoids a copy in double precision.
    centres = np.random.default_rng(0).standard_normal((clusters, shape.dims), np.float32)
    count = shape.vectors if count is None else count
    for number, start in enumerate(range(0, count, _BLOCK)):
        random = np.random.default_rng([0, stream, number])
        cluster_of_row = random.integers(clusters, size=_BLOCK)
        block = random.standard_normal((_BLOCK, shape.dims), np.float32)
        block *= np.float32(shape.noise)
        block += centres[cluster_of_row]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        yield block[: count - start]


def neighbours(vectors: Vectors, queries: Vectors, k: int = K) -> NDArray[np.int64]:
    """Return, for each query, the rows of the k highest dot products, best first: int64 [Q, k]."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = queries @ vectors[start : start + _BLOCK].T
        best = _highest(block, k)
        scores = np.hstack([scores, np.take_along_axis(block, best, 1)])
        rows = np.hstack([rows, best + start])
        best = _highest(scores, k)
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1)


def _highest(scores: Vectors, k: int) -> NDArray[np.int64]:
    """Return the columns of the k highest scores in each row, in any order: int64 [Q, k]."""
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -k, axis=1)[:, -k:]


def write(shape: Shape, directory: Path) -> None:
    """Write the vectors, their ids, both sets of queries, and the neighbours of ``QUERIES``."""
    directory.mkdir(parents=True, exist_ok=True)
    vectors = np.lib.format.open_memmap(
        directory / VECTORS, "w+", np.float32, (shape.vectors, shape.dims)
    )
    start = 0
    for block in clustered(shape):
        vectors[start : start + len(block)] = block
        start += len(block)
    vectors.flush()
    np.save(directory / IDS, np.arange(shape.vectors).astype("S10"))
    for name, stream in ((TUNING, _TUNING_STREAM), (QUERIES, _QUERIES_STREAM)):
        np.save(directory / name, np.concatenate(list(clustered(shape, shape.queries, stream))))
    np.save(directory / TRUTH, neighbours(vectors, np.load(directory / QUERIES)))
