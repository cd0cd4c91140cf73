"""The indexes that the index benchmark compares, and the process that each of them runs in.

    python -m benchmarks.index.peers build NAME DATA_DIR INDEX_DIR
    python -m benchmarks.index.peers serve NAME DATA_DIR INDEX_DIR

`serve` loads the index, then reads one JSON object a line and answers with one a line:

    {"do": "recall", "setting": {...}}                       -> {"tuning": r, "reported": r}
    {"do": "time", "setting": {...}, "batch": B,
     "callers": C, "threads": T, "seconds": S}               -> {"rate": q/s, "cores": c}

and ends with its input. Recall is the share of the 100 true neighbours that were returned, by
identity; the even queries are for choosing a setting, the odd ones for reporting.
"""

import json
import math
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import IDS, QUERIES, TRUTH, TUNING, VECTORS, K

Setting = dict[str, float]
Rows = NDArray[np.int64]
CORES = os.cpu_count() or 1

_WARM_UP = 3


class Peer(ABC):
    """One way to search, at one choice of what is fixed when it is built."""

    #: The module it cannot do without.
    needs = "numpy"

    def ladders(self, size: int) -> list[list[Setting]]:  # noqa: ARG002
        """What can be chosen per query, from fast to exact: rungs, and ladders beside them."""
        return [[{}]]

    def build(self, data: Path, index: Path) -> None:  # noqa: B027  (exact builds nothing)
        """Make the index of ``data`` and leave it in the empty directory ``index``."""

    @abstractmethod
    def load(self, data: Path, index: Path) -> None:
        """Get ready to search."""

    def use(self, setting: Setting, threads: int) -> None:  # noqa: B027  (not all can choose)
        """Search like this from now on. Called in every thread that searches."""

    @abstractmethod
    def search(self, queries: NDArray[np.float32]) -> Any:
        """What is timed: float32 [B, D] -> the library's own answer."""

    @abstractmethod
    def rows(self, answer: Any) -> Rows:
        """Rows [B, K] of an answer."""


class Hnswlib(Peer):
    """Hierarchical navigable small worlds by their authors.

    Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    hierarchical navigable small world graphs" (TPAMI 2018).
    """

    needs = "hnswlib"

    def __init__(self, links: int, ef_construction: int = 200) -> None:
        self._links, self._ef_construction = links, ef_construction
        self._threads = CORES

    def ladders(self, size: int) -> list[list[Setting]]:
        """See the base class. An ef below k is not allowed."""
        return [[{"ef": min(size, round(K * 1.15**step))} for step in range(24)]]

    def build(self, data: Path, index: Path) -> None:
        """See the base class."""
        import hnswlib

        vectors = np.load(data / VECTORS)
        graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
        graph.init_index(len(vectors), M=self._links, ef_construction=self._ef_construction)
        graph.add_items(vectors, num_threads=CORES)
        graph.save_index(str(index / "hnsw.bin"))

    def load(self, data: Path, index: Path) -> None:
        """See the base class."""
        import hnswlib

        dims = np.load(data / QUERIES, mmap_mode="r").shape[1]
        self._graph = hnswlib.Index(space="ip", dim=dims)
        self._graph.load_index(str(index / "hnsw.bin"))

    def use(self, setting: Setting, threads: int) -> None:
        """See the base class."""
        self._graph.set_ef(setting["ef"])
        self._threads = threads

    def search(self, queries: NDArray[np.float32]) -> Any:
        """See the base class."""
        return self._graph.knn_query(queries, k=K, num_threads=self._threads)

    def rows(self, answer: Any) -> Rows:
        """See the base class."""
        return np.asarray(answer[0], np.int64)


class Faiss(Peer):
    """Faiss' fast scan: inverted lists of 4-bit product codes, the best rescored in full.

    Andre et al., "Quicker ADC" (TPAMI 2019); in Faiss' words IVFx,PQyx4fs,RFlat.
    """

    needs = "faiss"

    def __init__(self, residual: bool) -> None:
        self._residual = residual

    @staticmethod
    def lists(size: int) -> int:
        """The power of two nearest to 4 sqrt(N), the least that Faiss' guide advises."""
        return int(2 ** round(math.log2(4 * math.sqrt(size))))

    def ladders(self, size: int) -> list[list[Setting]]:
        """See the base class."""
        probes = sorted({round(2 ** (step / 2)) for step in range(20)})
        return [
            [{"nprobe": probe, "k_factor": factor} for factor in (1, 1.5, 2, 3, 4, 6, 8, 12, 16)]
            for probe in probes
            if probe <= self.lists(size)
        ]

    def build(self, data: Path, index: Path) -> None:
        """See the base class. Two dimensions share a code, as in ScaNN."""
        import faiss

        vectors = np.load(data / VECTORS)
        size, dims = vectors.shape
        codes = f"PQ{dims // 2}x4fs{'r' if self._residual else ''}"
        made = faiss.index_factory(
            dims, f"IVF{self.lists(size)},{codes},RFlat", faiss.METRIC_INNER_PRODUCT
        )
        made.train(vectors)
        made.add(vectors)
        faiss.write_index(made, str(index / "index.faiss"))

    def load(self, data: Path, index: Path) -> None:  # noqa: ARG002
        """See the base class."""
        import faiss

        self._faiss = faiss
        # Owns what the other is a view of.
        self._refined = faiss.read_index(str(index / "index.faiss"))
        self._lists = faiss.downcast_index(self._refined.base_index)

    def use(self, setting: Setting, threads: int) -> None:
        """See the base class. OpenMP keeps its number of threads per calling thread."""
        self._faiss.omp_set_num_threads(threads)
        self._lists.nprobe = int(setting["nprobe"])
        self._refined.k_factor = float(setting["k_factor"])

    def search(self, queries: NDArray[np.float32]) -> Any:
        """See the base class."""
        return self._refined.search(queries, K)

    def rows(self, answer: Any) -> Rows:
        """See the base class."""
        return np.asarray(answer[1], np.int64)


class Saved(Peer):
    """A SavedModel asked through a signature; it answers with string ids."""

    needs = "tensorflow"
    signature, query, answer = "serving_default", "queries", "ids"

    def model(self, index: Path) -> Path:
        """Where the SavedModel lies."""
        return index

    def load(self, data: Path, index: Path) -> None:  # noqa: ARG002
        """See the base class."""
        tf = _tensorflow()
        # Keeps the variables alive.
        self._loaded = tf.saved_model.load(str(self.model(index)))
        self._ask = self._loaded.signatures[self.signature]
        self._constant = tf.constant

    def inputs(self, queries: NDArray[np.float32]) -> dict[str, Any]:
        """What the signature is called with."""
        return {self.query: self._constant(queries)}

    def search(self, queries: NDArray[np.float32]) -> Any:
        """See the base class."""
        return self._ask(**self.inputs(queries))[self.answer]

    def rows(self, answer: Any) -> Rows:
        """See the base class."""
        ids = answer.numpy().astype("S10")
        ids[ids == b""] = b"-1"
        return np.asarray(ids, np.int64)


class Ours(Saved):
    """What `python -m trainer index` exports for a target of recall; built by that command."""

    needs = "scann"
    signature, query, answer = "by_vector", "vector", "item_id"

    def __init__(self, target: float) -> None:
        self.target = target

    def command(self, data: Path, index: Path) -> list[str]:
        """What builds it. The queries that it tunes with are not those that are measured."""
        return [
            *(sys.executable, "-m", "trainer", "index"),
            *("--embeddings", str(data / VECTORS), "--ids", str(data / IDS)),
            *("--queries", str(data / TUNING), "--models-dir", str(index)),
            *("--set", f"index.target_recall={self.target}"),
        ]

    def model(self, index: Path) -> Path:
        """See the base class."""
        return max((index / "retrieval").iterdir(), key=lambda version: int(version.name))

    def inputs(self, queries: NDArray[np.float32]) -> dict[str, Any]:
        """See the base class."""
        return super().inputs(queries) | {"k": self._constant([K] * len(queries))}


class Tfrs(Saved):
    """The ScaNN layer of TensorFlow Recommenders."""

    needs = "tensorflow_recommenders"

    def __init__(self, with_sqrt: bool) -> None:
        self._with_sqrt = with_sqrt

    def build(self, data: Path, index: Path) -> None:
        """See the base class."""
        tf = _tensorflow()
        from tensorflow_recommenders.layers.factorized_top_k import ScaNN

        vectors = np.load(data / VECTORS)
        chosen: dict[str, Any] = {}
        if self._with_sqrt:
            leaves = round(math.sqrt(len(vectors)))
            chosen = {
                "num_leaves": leaves,
                "num_leaves_to_search": max(1, leaves // 10),
                "num_reordering_candidates": 500,
            }
        layer = ScaNN(k=K, **chosen)
        layer.index(tf.constant(vectors), tf.constant(np.load(data / IDS)))
        module = tf.Module()
        module.layer = layer
        signature = tf.TensorSpec([None, vectors.shape[1]], tf.float32, self.query)
        answers = tf.function(
            lambda queries: {self.answer: layer(queries)[1]}, input_signature=[signature]
        )
        tf.saved_model.save(
            module,
            str(index),
            signatures={self.signature: answers},
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )


class Exact(Peer):
    """One matrix product and the top k of it, in TensorFlow."""

    needs = "tensorflow"

    def load(self, data: Path, index: Path) -> None:  # noqa: ARG002
        """See the base class."""
        tf = _tensorflow()
        vectors = tf.constant(np.load(data / VECTORS))
        signature = tf.TensorSpec([None, vectors.shape[1]], tf.float32)

        def search(queries: Any) -> Any:
            return tf.math.top_k(tf.linalg.matmul(queries, vectors, transpose_b=True), k=K).indices

        self._vectors = vectors
        self._search = tf.function(search, input_signature=[signature])
        self._constant = tf.constant

    def search(self, queries: NDArray[np.float32]) -> Any:
        """See the base class."""
        return self._search(self._constant(queries))

    def rows(self, answer: Any) -> Rows:
        """See the base class."""
        return np.asarray(answer.numpy(), np.int64)


#: Those that need no target, by name.
PEERS: dict[str, Callable[[], Peer]] = {
    "tfrs": lambda: Tfrs(with_sqrt=False),
    "tfrs-sqrt": lambda: Tfrs(with_sqrt=True),
    "hnswlib-16": lambda: Hnswlib(16),
    "hnswlib-32": lambda: Hnswlib(32),
    "faiss": lambda: Faiss(residual=False),
    "faiss-residual": lambda: Faiss(residual=True),
    "exact": Exact,
}
OURS = "ours-"


def peer(name: str) -> Peer:
    """The peer of a name of ``PEERS``, or of "ours-0.95"."""
    return Ours(float(name.removeprefix(OURS))) if name.startswith(OURS) else PEERS[name]()


def _tensorflow() -> Any:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import scann.scann_ops.py.scann_ops  # noqa: F401  (registers ScaNN's ops)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(CORES)
    return tf


class _Serving:
    """Answers the parent's lines."""

    def __init__(self, served: Peer, data: Path) -> None:
        self._peer = served
        self._queries = np.load(data / QUERIES)
        self._truth = np.load(data / TRUTH)

    def recall(self, setting: Setting) -> dict[str, float]:
        """Of both halves of the queries."""
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
        """Queries per second, and how many cores were at work meanwhile."""
        batches = [
            np.ascontiguousarray(one)
            for one in np.split(self._queries, range(batch, len(self._queries), batch))
            if len(one) == batch
        ]
        counts = [0] * callers
        marks: list[tuple[float, float]] = []
        # Wall clock and processor time when all are warm: the block begins here.
        barrier = threading.Barrier(callers, lambda: marks.append(_clocks()))

        def call(caller: int) -> None:
            self._peer.use(setting, threads)
            at = caller * len(batches) // callers
            for step in range(_WARM_UP):
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
    # What libraries print goes to stderr; only answers go to the parent.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    served = peer(name)
    served.load(data, index)
    serving = _Serving(served, data)
    does: dict[str, Callable[..., dict[str, float]]] = {
        "recall": serving.recall,
        "time": serving.time,
    }
    print(json.dumps({"ready": name}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(does[asked.pop("do")](**asked)), file=answers, flush=True)


def main() -> None:
    """Build or serve one peer."""
    role, name, data, index = sys.argv[1:]
    if role == "build":
        peer(name).build(Path(data), Path(index))
    else:
        _serve(name, Path(data), Path(index))


if __name__ == "__main__":
    main()
