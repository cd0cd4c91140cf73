"""The indexes that are compared: Shortlist's index, and indexes from other libraries."""

import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import IDS, QUERIES, TUNING, VECTORS, K
from serving_contract import BY_VECTOR, ITEM_ID, RETRIEVAL, VECTOR

Queries = NDArray[np.float32]
Setting = dict[str, float]
Rows = NDArray[np.int64]
CORES = os.cpu_count() or 1


class Peer(ABC):
    """An index of one library, including the parameters that it is built with."""

    def ladders(self, size: int) -> list[list[Setting]]:
        """Return lists of search settings to try, each list from the fastest to the most exact.

        ``size`` is the number of vectors in the index.
        """
        return [[{}]]

    def build(self, data: Path, index: Path) -> None:  # noqa: B027
        """Build an index of the vectors in ``data``, and write it into the directory ``index``."""

    def loaded_files(self, data: Path, index: Path) -> Path:
        """Return the file or directory that :meth:`load` reads."""
        return index

    @abstractmethod
    def load(self, data: Path, index: Path) -> None:
        """Load the index that :meth:`build` wrote."""

    def use(self, setting: Setting, threads: int) -> None:  # noqa: B027
        """Use a search setting from now on. Every searching thread must call this method."""

    @abstractmethod
    def search(self, queries: Queries) -> Any:
        """Return the library's own answer to queries float32 [B, D]. This call is timed."""

    @abstractmethod
    def rows(self, answer: Any) -> Rows:
        """Return the row numbers of the vectors in an answer, int64 [B, K]."""


class Hnswlib(Peer):
    """HNSW graphs with M = 16, as implemented by the authors of the method in hnswlib.

    Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    hierarchical navigable small world graphs" (TPAMI 2018).
    """

    _FILE = "hnsw.bin"

    def ladders(self, size: int) -> list[list[Setting]]:
        # ef must not be below k.
        return [[{"ef": min(size, round(K * 1.15**step))} for step in range(24)]]

    def build(self, data: Path, index: Path) -> None:
        import hnswlib

        vectors = np.load(data / VECTORS)
        graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
        graph.init_index(len(vectors), M=16, ef_construction=200)
        graph.add_items(vectors, num_threads=CORES)
        graph.save_index(str(index / self._FILE))

    def load(self, data: Path, index: Path) -> None:
        import hnswlib

        dims = np.load(data / QUERIES, mmap_mode="r").shape[1]
        self._graph = hnswlib.Index(space="ip", dim=dims)
        self._graph.load_index(str(index / self._FILE))

    def use(self, setting: Setting, threads: int) -> None:
        self._graph.set_ef(setting["ef"])
        self._graph.set_num_threads(threads)

    def search(self, queries: Queries) -> Any:
        return self._graph.knn_query(queries, k=K)

    def rows(self, answer: Any) -> Rows:
        return np.asarray(answer[0], np.int64)


class Faiss(Peer):
    """Faiss' fast scan: inverted lists with 4-bit product codes; exact scores for the best vectors.

    Andre et al., "Quicker ADC" (TPAMI 2019); the index factory string is IVFx,PQyx4fs,RFlat.
    """

    _FILE = "index.faiss"

    @staticmethod
    def lists(size: int) -> int:
        """Return the number of lists: the power of two nearest to 4 sqrt(N), Faiss' minimum."""
        return int(2 ** round(math.log2(4 * math.sqrt(size))))

    def ladders(self, size: int) -> list[list[Setting]]:
        probes = sorted({round(2 ** (step / 2)) for step in range(20)})
        return [
            [{"nprobe": probe, "k_factor": factor} for factor in (1, 1.5, 2, 3, 4, 6, 8, 12, 16)]
            for probe in probes
            if probe <= self.lists(size)
        ]

    def build(self, data: Path, index: Path) -> None:
        import faiss

        vectors = np.load(data / VECTORS)
        size, dims = vectors.shape
        # As in ScaNN, one code represents two dimensions.
        description = f"IVF{self.lists(size)},PQ{dims // 2}x4fs,RFlat"
        built = faiss.index_factory(dims, description, faiss.METRIC_INNER_PRODUCT)
        built.train(vectors)
        built.add(vectors)
        faiss.write_index(built, str(index / self._FILE))

    def load(self, data: Path, index: Path) -> None:
        import faiss

        self._faiss = faiss
        # self._lists is a view of self._refined, which must therefore be kept.
        self._refined = faiss.read_index(str(index / self._FILE))
        self._lists = faiss.downcast_index(self._refined.base_index)

    def use(self, setting: Setting, threads: int) -> None:
        # OpenMP keeps a separate number of threads for each calling thread.
        self._faiss.omp_set_num_threads(threads)
        self._lists.nprobe = int(setting["nprobe"])
        self._refined.k_factor = float(setting["k_factor"])

    def search(self, queries: Queries) -> Any:
        return self._refined.search(queries, K)

    def rows(self, answer: Any) -> Rows:
        return np.asarray(answer[1], np.int64)


class SavedModel(Peer):
    """A SavedModel that is called through a signature and returns string ids."""

    signature, query, answer = "serving_default", "queries", "ids"

    def load(self, data: Path, index: Path) -> None:
        tf = _tensorflow()
        # The loaded object owns the variables, so it must be kept.
        self._loaded = tf.saved_model.load(str(self.loaded_files(data, index)))
        self._search = self._loaded.signatures[self.signature]
        self._constant = tf.constant

    def inputs(self, queries: Queries) -> dict[str, Any]:
        """Return the arguments of the signature."""
        return {self.query: self._constant(queries)}

    def search(self, queries: Queries) -> Any:
        return self._search(**self.inputs(queries))[self.answer]

    def rows(self, answer: Any) -> Rows:
        ids = answer.numpy().astype("S10")
        ids[ids == b""] = b"-1"
        return np.asarray(ids, np.int64)


class Ours(SavedModel):
    """The index that `python -m trainer index` exports for a target recall."""

    signature, query, answer = BY_VECTOR, VECTOR, ITEM_ID

    def __init__(self, target: float) -> None:
        self._target = target

    def build(self, data: Path, index: Path) -> None:
        from trainer.cli.main import main

        # The command tunes the index with queries that are not used for the measurements.
        arguments = ["index", "--embeddings", str(data / VECTORS), "--ids", str(data / IDS)]
        arguments += ["--queries", str(data / TUNING), "--models-dir", str(index)]
        if main([*arguments, "--set", f"index.target_recall={self._target}"]):
            raise RuntimeError("python -m trainer index failed; its output says why")

    def loaded_files(self, data: Path, index: Path) -> Path:
        [version] = (index / RETRIEVAL).iterdir()
        return version

    def inputs(self, queries: Queries) -> dict[str, Any]:
        return super().inputs(queries) | {"k": self._constant([K] * len(queries))}


class Tfrs(SavedModel):
    """The ScaNN layer of TensorFlow Recommenders with its defaults."""

    def build(self, data: Path, index: Path) -> None:
        tf = _tensorflow()
        from tensorflow_recommenders.layers.factorized_top_k import ScaNN

        vectors = np.load(data / VECTORS)
        module = tf.Module()
        module.layer = ScaNN(k=K)
        module.layer.index(tf.constant(vectors), tf.constant(np.load(data / IDS)))
        signature = tf.TensorSpec([None, vectors.shape[1]], tf.float32, self.query)
        search = tf.function(
            lambda queries: {self.answer: module.layer(queries)[1]}, input_signature=[signature]
        )
        tf.saved_model.save(
            module,
            str(index),
            signatures={self.signature: search},
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )


class Exact(Peer):
    """Exact search in TensorFlow: one matrix product and its top k. There is no index to build."""

    def loaded_files(self, data: Path, index: Path) -> Path:
        return data / VECTORS

    def load(self, data: Path, index: Path) -> None:
        tf = _tensorflow()
        vectors = tf.constant(np.load(self.loaded_files(data, index)))
        signature = tf.TensorSpec([None, vectors.shape[1]], tf.float32)

        def search(queries: Any) -> Any:
            return tf.math.top_k(tf.linalg.matmul(queries, vectors, transpose_b=True), k=K).indices

        self._search = tf.function(search, input_signature=[signature])
        self._constant = tf.constant

    def search(self, queries: Queries) -> Any:
        return self._search(self._constant(queries))

    def rows(self, answer: Any) -> Rows:
        return np.asarray(answer.numpy(), np.int64)


def _tensorflow() -> Any:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import scann  # noqa: F401  (registers ScaNN's operations)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(CORES)
    return tf


#: The peers that are built only once, not once per target recall, by name.
PEERS: dict[str, type[Peer]] = {
    "tfrs": Tfrs,
    "hnswlib-16": Hnswlib,
    "faiss": Faiss,
    "exact": Exact,
}
#: The names of Shortlist's indexes are this prefix and the target recall, as in "ours-0.95".
OURS = "ours-"


def make_peer(name: str) -> Peer:
    """Return the peer with this name, which is a key of ``PEERS`` or begins with ``OURS``."""
    return Ours(float(name.removeprefix(OURS))) if name.startswith(OURS) else PEERS[name]()
