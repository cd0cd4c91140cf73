"""The code that runs in the process of one peer, so that the memory of each peer is measured alone.

Each function is called in a process pool of one worker. ``load`` comes first, and the loaded peer
stays in the worker. Recall is the share of the 100 exact neighbours that were returned, by
identity; the even queries are for choosing a setting, the odd ones for reporting.
"""

import resource
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.peers import CORES, Peer, Setting, peer
from benchmarks.vectors import QUERIES, TRUTH, K

_WARM_UP_CALLS = 3

_loaded: Peer
_queries: NDArray[np.float32]
_neighbours: NDArray[np.int64]


def build(name: str, data: Path, index: Path) -> float:
    """Build the index of a peer; return the peak memory of this process in MiB."""
    peer(name).build(data, index)
    return peak_mib()


def load(name: str, data: Path, index: Path) -> None:
    """Load the index of a peer."""
    global _loaded, _queries, _neighbours
    _loaded = peer(name)
    _loaded.load(data, index)
    _queries, _neighbours = np.load(data / QUERIES), np.load(data / TRUTH)


def peak_mib() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def recall(setting: Setting) -> tuple[float, float]:
    """Return the recall@100 of both halves of the queries."""
    _loaded.use(setting, CORES)
    shares = [
        len(set(found.tolist()) & set(true.tolist())) / K
        for start in range(0, len(_queries), 32)
        for found, true in zip(
            _loaded.rows(_loaded.search(_queries[start : start + 32])),
            _neighbours[start : start + 32],
            strict=True,
        )
    ]
    return float(np.mean(shares[::2])), float(np.mean(shares[1::2]))


def time_searches(
    setting: Setting, batch: int, callers: int, threads: int, seconds: float
) -> tuple[float, float]:
    """Return queries per second, and the processor use of this process in cores."""
    batches = [
        np.ascontiguousarray(one)
        for one in np.split(_queries, range(batch, len(_queries), batch))
        if len(one) == batch
    ]
    counts = [0] * callers
    marks: list[tuple[float, float]] = []
    # Wall clock and processor time at the moment when all threads are warm.
    barrier = threading.Barrier(callers, lambda: marks.append(_clocks()))

    def call(caller: int) -> None:
        _loaded.use(setting, threads)
        at = caller * len(batches) // callers
        for step in range(_WARM_UP_CALLS):
            _loaded.search(batches[(at + step) % len(batches)])
        barrier.wait(60)
        while time.perf_counter() < marks[0][0] + seconds:
            _loaded.search(batches[at % len(batches)])
            at += 1
            counts[caller] += 1

    running = [threading.Thread(target=call, args=(one,)) for one in range(1, callers)]
    for one in running:
        one.start()
    call(0)
    for one in running:
        one.join()
    wall, cpu = (now - then for now, then in zip(_clocks(), marks[0], strict=True))
    return sum(counts) * batch / wall, cpu / wall


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
