"""Draw clustered vectors and find their exact neighbours, block by block.

Cluster centres are Gaussian. A vector is a centre, each as likely as any other, plus Gaussian
noise. Queries are drawn the same way and are not among the vectors. Everything is float32 and
depends on the options alone: a larger set begins with the vectors of a smaller one with the same
clusters.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config_fields import Validated, rule_of, setting

Vectors = NDArray[np.float32]

#: The files that ``write`` makes.
VECTORS, IDS, TUNING, QUERIES, TRUTH = (
    f"{name}.npy" for name in ("vectors", "ids", "tuning", "queries", "truth")
)
MADE = "made.json"
#: The number of exact neighbours of every query.
K = 100

_BLOCK = 65_536
_BASE, _TUNING, _QUERIES = range(3)


@dataclass(frozen=True)
class Shape(Validated):
    """The shape of a set of vectors."""

    vectors: int = setting(1_000_000, "Number of vectors.")
    dims: int = setting(64, "Dimensions of the vectors.")
    clusters: int = setting(0, "Number of clusters; 0: one per 1,000 vectors.")
    noise: float = setting(0.6, "Deviation around a centre; that of the centres is 1.")
    normalised: bool = setting(True, "Scale all vectors to length 1.")
    seed: int = setting(0, "Seed of all random numbers.")
    queries: int = setting(2_000, "Number of queries to measure with, and of those to tune with.")


def clustered(shape: Shape, count: int | None = None, stream: int = _BASE) -> Iterator[Vectors]:
    """Yield blocks of vectors, float32 [at most 65,536, D]; streams are independent draws."""
    clusters = shape.clusters or max(1, shape.vectors // 1_000)
    # Drawn as float32, so that there is no copy in double precision.
    centres = np.random.default_rng(shape.seed).standard_normal((clusters, shape.dims), np.float32)
    count = shape.vectors if count is None else count
    for number, start in enumerate(range(0, count, _BLOCK)):
        random = np.random.default_rng([shape.seed, stream, number])
        belongs = random.integers(clusters, size=_BLOCK)
        block = random.standard_normal((_BLOCK, shape.dims), np.float32)
        block *= np.float32(shape.noise)
        block += centres[belongs]
        if shape.normalised:
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        yield block[: count - start]


def neighbours(vectors: Vectors, queries: Vectors, k: int = K) -> NDArray[np.int64]:
    """Return the rows int64 [Q, k] of the highest dot products, best first."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = queries @ vectors[start : start + _BLOCK].T
        best = _highest(block, k)
        scores = np.hstack([scores, np.take_along_axis(block, best, 1)])
        rows = np.hstack([rows, best + start])
        kept = _highest(scores, k)
        scores, rows = np.take_along_axis(scores, kept, 1), np.take_along_axis(rows, kept, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1)


def _highest(scores: Vectors, k: int) -> NDArray[np.int64]:
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -k, axis=1)[:, -k:]


def write(shape: Shape, directory: Path) -> None:
    """Write vectors, ids, both sets of queries, and the neighbours of ``queries.npy``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MADE).unlink(missing_ok=True)
    vectors = np.lib.format.open_memmap(
        directory / VECTORS, "w+", np.float32, (shape.vectors, shape.dims)
    )
    start = 0
    for block in clustered(shape):
        vectors[start : start + len(block)] = block
        start += len(block)
    vectors.flush()
    np.save(directory / IDS, np.arange(shape.vectors).astype("S10"))
    for name, stream in ((TUNING, _TUNING), (QUERIES, _QUERIES)):
        np.save(directory / name, np.concatenate(list(clustered(shape, shape.queries, stream))))
    np.save(directory / TRUTH, neighbours(vectors, np.load(directory / QUERIES)))
    # Written last, so that the other files are complete if this one exists.
    (directory / MADE).write_text(json.dumps(asdict(shape), indent=2) + "\n", encoding="utf-8")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for every attribute of ``Shape``."""
    for one in fields(Shape):
        kind = type(one.default)
        if kind is bool:
            read: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        else:
            read = {"type": kind}
        text = f"{rule_of(one).help} (default: {one.default})"
        parser.add_argument(f"--{one.name}", default=one.default, help=text, **read)


def shape_of(arguments: argparse.Namespace) -> Shape:
    """Return the shape that the options of ``add_options`` describe."""
    return Shape(**{one.name: getattr(arguments, one.name) for one in fields(Shape)})
