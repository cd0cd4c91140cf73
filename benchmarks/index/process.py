"""The process of one peer, so that the memory of each peer is measured alone.

    python -m benchmarks.index.process build NAME DATA_DIR INDEX_DIR
    python -m benchmarks.index.process serve NAME DATA_DIR INDEX_DIR

`serve` loads the index, then reads a JSON object per line and answers each with one line:

    {"do": "recall", "setting": {...}}                       -> {"tuning": r, "reported": r}
    {"do": "time", "setting": {...}, "batch": B,
     "callers": C, "threads": T, "seconds": S}               -> {"rate": q/s, "cores": c}

It ends with its input. Recall is the share of the 100 exact neighbours that were returned, by
identity; the even queries are for choosing a setting, the odd ones for reporting.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.index.peer import CORES, Peer, Setting
from benchmarks.index.peers import peer
from benchmarks.vectors import QUERIES, TRUTH, K

_WARM_UP_CALLS = 3


class _Measuring:
    """Measures a loaded peer with the queries of a data directory."""

    def __init__(self, measured: Peer, data: Path) -> None:
        self._peer = measured
        self._queries = np.load(data / QUERIES)
        self._truth = np.load(data / TRUTH)

    def recall(self, setting: Setting) -> dict[str, float]:
        """Return the recall@100 of both halves of the queries."""
        self._peer.use(setting, CORES)
        shares = [
            len(set(found.tolist()) & set(true.tolist())) / K
            for start in range(0, len(self._queries), 32)
            for found, true in zip(
                self._peer.rows(self._peer.search(self._queries[start : start + 32])),
                self._truth[start : start + 32],
                strict=True,
            )
        ]
        return {"tuning": float(np.mean(shares[::2])), "reported": float(np.mean(shares[1::2]))}

    def time(
        self, setting: Setting, batch: int, callers: int, threads: int, seconds: float
    ) -> dict[str, float]:
        """Return queries per second, and the processor use of this process in cores."""
        batches = [
            np.ascontiguousarray(one)
            for one in np.split(self._queries, range(batch, len(self._queries), batch))
            if len(one) == batch
        ]
        counts = [0] * callers
        marks: list[tuple[float, float]] = []
        # Wall clock and processor time at the moment when all threads are warm.
        barrier = threading.Barrier(callers, lambda: marks.append(_clocks()))

        def call(caller: int) -> None:
            self._peer.use(setting, threads)
            at = caller * len(batches) // callers
            for step in range(_WARM_UP_CALLS):
                self._peer.search(batches[(at + step) % len(batches)])
            barrier.wait(60)
            while time.perf_counter() < marks[0][0] + seconds:
                self._peer.search(batches[at % len(batches)])
                at += 1
                counts[caller] += 1

        running = [threading.Thread(target=call, args=(one,)) for one in range(1, callers)]
        for one in running:
            one.start()
        call(0)
        for one in running:
            one.join()
        wall, cpu = (now - then for now, then in zip(_clocks(), marks[0], strict=True))
        return {"rate": sum(counts) * batch / wall, "cores": cpu / wall}


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _serve(name: str, data: Path, index: Path) -> None:
    # Libraries that print to stdout are redirected to stderr; the parent reads answers only.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    loaded = peer(name)
    loaded.load(data, index)
    measuring = _Measuring(loaded, data)
    actions: dict[str, Callable[..., dict[str, float]]] = {
        "recall": measuring.recall,
        "time": measuring.time,
    }
    print(json.dumps({"ready": name}), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        answer = actions[question.pop("do")](**question)
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Build or serve the peer of the command line."""
    role, name, data, index = sys.argv[1:]
    if role == "build":
        peer(name).build(Path(data), Path(index))
    else:
        _serve(name, Path(data), Path(index))


if __name__ == "__main__":
    main()
