"""The functions that run in a peer's own process, so that its memory can be measured separately.

Each function is called in a process pool with one worker. ``load`` must be called before a peer is
measured; the loaded peer stays in the worker.
"""

import itertools
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.peers import CORES, Peer, Setting, make_peer
from benchmarks.vectors import QUERIES, TRUTH, K

_WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Load:
    """A way of sending queries to an index.

    Attributes:
        batch: the number of queries per call.
        callers: the number of threads that call at the same time.
        threads: the number of threads that the library may use for one call.
    """

    batch: int
    callers: int
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch}" + (f", {self.callers} callers" if self.callers > 1 else "")


LOADS = (Load(1, 1, 1), Load(32, 1, CORES), Load(32, CORES, 1))


_peer: Peer
_queries: NDArray[np.float32]
_neighbours: NDArray[np.int64]


def build(name: str, data: Path, index: Path) -> float:
    """Build a peer's index; return the peak memory of this process in MiB."""
    make_peer(name).build(data, index)
    return peak_mib()


def load(name: str, data: Path, index: Path) -> None:
    """Load a peer's index, and the queries with their exact neighbours."""
    global _peer, _queries, _neighbours
    _peer = make_peer(name)
    _peer.load(data, index)
    _queries, _neighbours = np.load(data / QUERIES), np.load(data / TRUTH)


def peak_mib() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def recall(setting: Setting) -> tuple[float, float]:
    """Return recall@100 on the queries for choosing a setting, and on the queries for reporting.

    Recall@100 is the share of the 100 exact neighbours that the index returns. Queries with even
    numbers are for choosing, queries with odd numbers for reporting.
    """
    _peer.use(setting, CORES)
    shares = [
        len(set(found.tolist()) & set(true.tolist())) / K
        for start in range(0, len(_queries), 32)
        for found, true in zip(
            _peer.rows(_peer.search(_queries[start : start + 32])),
            _neighbours[start : start + 32],
            strict=True,
        )
    ]
    return float(np.mean(shares[::2])), float(np.mean(shares[1::2]))


def time_searches(setting: Setting, load: Load, seconds: float) -> float:
    """Return queries per second, measured for ``seconds`` after a warm-up."""
    batches = [
        np.ascontiguousarray(_queries[start : start + load.batch])
        for start in range(0, len(_queries) - load.batch + 1, load.batch)
    ]
    all_are_warm = threading.Barrier(load.callers)

    def call(caller: int) -> float:
        """Return the queries per second of one calling thread."""
        _peer.use(setting, load.threads)
        first = caller * len(batches) // load.callers
        queries = itertools.cycle(batches[first:] + batches[:first])
        for _ in range(_WARM_UP_CALLS):
            _peer.search(next(queries))
        all_are_warm.wait(60)
        calls, start = 0, time.perf_counter()
        while (now := time.perf_counter()) < start + seconds:
            _peer.search(next(queries))
            calls += 1
        return calls * load.batch / (now - start)

    with ThreadPoolExecutor(load.callers) as pool:
        return sum(pool.map(call, range(load.callers)))
