"""The indexes that are compared: ours, and those of other libraries."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import IDS, QUERIES, TUNING, VECTORS, K

Queries = NDArray[np.float32]
Setting = dict[str, float]
Rows = NDArray[np.int64]
CORES = os.cpu_count() or 1


class Peer(ABC):
    """One index, with one choice of what is fixed when it is built.

    Attributes:
        needs: the module that it cannot run without.
    """

    needs = "tensorflow"

    def ladders(self, size: int) -> list[list[Setting]]:
        """Return lists of search settings to try, each from the fastest to the most exact."""
        return [[{}]]

    def build(self, data: Path, index: Path) -> None:  # noqa: B027
        """Build the index of the vectors in ``data``, in the empty directory ``index``."""

    @abstractmethod
    def load(self, data: Path, index: Path) -> None:
        """Load the index."""

    def use(self, setting: Setting, threads: int) -> None:  # noqa: B027
        """Use a setting from now on; called in every thread that searches."""

    @abstractmethod
    def search(self, queries: Queries) -> Any:
        """Search for float32 [B, D]; return the library's own answer. This is what is timed."""

    @abstractmethod
    def rows(self, answer: Any) -> Rows:
        """Return the rows int64 [B, K] of an answer."""


class Hnswlib(Peer):
    """hnswlib, the implementation of HNSW graphs by their authors.

    Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    hierarchical navigable small world graphs" (TPAMI 2018).
    """

    needs = "hnswlib"

    def __init__(self, links: int, ef_construction: int = 200) -> None:
        self._links, self._ef_construction = links, ef_construction
        self._threads = CORES

    def ladders(self, size: int) -> list[list[Setting]]:
        # ef must not be below k.
        return [[{"ef": min(size, round(K * 1.15**step))} for step in range(24)]]

    def build(self, data: Path, index: Path) -> None:
        import hnswlib

        vectors = np.load(data / VECTORS)
        graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
        graph.init_index(len(vectors), M=self._links, ef_construction=self._ef_construction)
        graph.add_items(vectors, num_threads=CORES)
        graph.save_index(str(index / "hnsw.bin"))

    def load(self, data: Path, index: Path) -> None:
        import hnswlib

        dims = np.load(data / QUERIES, mmap_mode="r").shape[1]
        self._graph = hnswlib.Index(space="ip", dim=dims)
        self._graph.load_index(str(index / "hnsw.bin"))

    def use(self, setting: Setting, threads: int) -> None:
        self._graph.set_ef(setting["ef"])
        self._threads = threads

    def search(self, queries: Queries) -> Any:
        return self._graph.knn_query(queries, k=K, num_threads=self._threads)

    def rows(self, answer: Any) -> Rows:
        return np.asarray(answer[0], np.int64)


class Faiss(Peer):
    """Faiss' fast scan: inverted lists of 4-bit product codes, the best ones rescored exactly.

    Andre et al., "Quicker ADC" (TPAMI 2019); the index factory string is IVFx,PQyx4fs,RFlat.
    """

    needs = "faiss"

    def __init__(self, residual: bool) -> None:
        self._residual = residual

    @staticmethod
    def lists(size: int) -> int:
        """Return the power of two nearest to 4 sqrt(N), the smallest number that Faiss advises."""
        return int(2 ** round(math.log2(4 * math.sqrt(size))))

    def ladders(self, size: int) -> list[list[Setting]]:
        probes = sorted({round(2 ** (step / 2)) for step in range(20)})
        return [
            [{"nprobe": probe, "k_factor": factor} for factor in (1, 1.5, 2, 3, 4, 6, 8, 12, 16)]
            for probe in probes
            if probe <= self.lists(size)
        ]

    def build(self, data: Path, index: Path) -> None:
        # As in ScaNN, two dimensions share a code.
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

    def load(self, data: Path, index: Path) -> None:
        import faiss

        self._faiss = faiss
        # Kept because the other one is a view of it.
        self._refined = faiss.read_index(str(index / "index.faiss"))
        self._lists = faiss.downcast_index(self._refined.base_index)

    def use(self, setting: Setting, threads: int) -> None:
        # OpenMP has a number of threads for each calling thread.
        self._faiss.omp_set_num_threads(threads)
        self._lists.nprobe = int(setting["nprobe"])
        self._refined.k_factor = float(setting["k_factor"])

    def search(self, queries: Queries) -> Any:
        return self._refined.search(queries, K)

    def rows(self, answer: Any) -> Rows:
        return np.asarray(answer[1], np.int64)


class Saved(Peer):
    """A SavedModel that is called through a signature and answers with string ids."""

    signature, query, answer = "serving_default", "queries", "ids"

    def model(self, index: Path) -> Path:
        """Return the directory of the SavedModel."""
        return index

    def load(self, data: Path, index: Path) -> None:
        tf = _tensorflow()
        # Kept because it owns the variables.
        self._loaded = tf.saved_model.load(str(self.model(index)))
        self._ask = self._loaded.signatures[self.signature]
        self._constant = tf.constant

    def inputs(self, queries: Queries) -> dict[str, Any]:
        """Return the arguments of the signature."""
        return {self.query: self._constant(queries)}

    def search(self, queries: Queries) -> Any:
        return self._ask(**self.inputs(queries))[self.answer]

    def rows(self, answer: Any) -> Rows:
        ids = answer.numpy().astype("S10")
        ids[ids == b""] = b"-1"
        return np.asarray(ids, np.int64)


class Ours(Saved):
    """The index that `python -m trainer index` exports for a target recall."""

    needs = "scann"
    signature, query, answer = "by_vector", "vector", "item_id"

    def __init__(self, target: float) -> None:
        self.target = target

    def build(self, data: Path, index: Path) -> None:
        # The command tunes with other queries than those measured.
        from trainer.cli.main import main

        arguments = ["index", "--embeddings", str(data / VECTORS), "--ids", str(data / IDS)]
        arguments += ["--queries", str(data / TUNING), "--models-dir", str(index)]
        if main([*arguments, "--set", f"index.target_recall={self.target}"]):
            raise RuntimeError("python -m trainer index failed; its output says why")

    def model(self, index: Path) -> Path:
        return max((index / "retrieval").iterdir(), key=lambda version: int(version.name))

    def inputs(self, queries: Queries) -> dict[str, Any]:
        return super().inputs(queries) | {"k": self._constant([K] * len(queries))}


class Tfrs(Saved):
    """The ScaNN layer of TensorFlow Recommenders."""

    needs = "tensorflow_recommenders"

    def __init__(self, with_sqrt: bool) -> None:
        self._with_sqrt = with_sqrt

    def build(self, data: Path, index: Path) -> None:
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
    """The exact index: one matrix product and its top k, in TensorFlow."""

    def load(self, data: Path, index: Path) -> None:
        tf = _tensorflow()
        vectors = tf.constant(np.load(data / VECTORS))
        signature = tf.TensorSpec([None, vectors.shape[1]], tf.float32)

        def search(queries: Any) -> Any:
            return tf.math.top_k(tf.linalg.matmul(queries, vectors, transpose_b=True), k=K).indices

        self._vectors = vectors
        self._search = tf.function(search, input_signature=[signature])
        self._constant = tf.constant

    def search(self, queries: Queries) -> Any:
        return self._search(self._constant(queries))

    def rows(self, answer: Any) -> Rows:
        return np.asarray(answer.numpy(), np.int64)


def _tensorflow() -> Any:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import scann.scann_ops.py.scann_ops  # noqa: F401  (registers ScaNN's ops)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(CORES)
    return tf


#: Peers that are built without a target recall, by name.
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
    """Return the peer with a name of ``PEERS``, or one such as "ours-0.95"."""
    return Ours(float(name.removeprefix(OURS))) if name.startswith(OURS) else PEERS[name]()
