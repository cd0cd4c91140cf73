"""hnswlib and Faiss."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.peer import CORES, Peer, Rows, Setting
from benchmarks.vectors import QUERIES, VECTORS, K


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
        """See the base class. ef must not be below k."""
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
        """See the base class."""
        probes = sorted({round(2 ** (step / 2)) for step in range(20)})
        return [
            [{"nprobe": probe, "k_factor": factor} for factor in (1, 1.5, 2, 3, 4, 6, 8, 12, 16)]
            for probe in probes
            if probe <= self.lists(size)
        ]

    def build(self, data: Path, index: Path) -> None:
        """See the base class. As in ScaNN, two dimensions share a code."""
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
        # Kept because the other one is a view of it.
        self._refined = faiss.read_index(str(index / "index.faiss"))
        self._lists = faiss.downcast_index(self._refined.base_index)

    def use(self, setting: Setting, threads: int) -> None:
        """See the base class. OpenMP has a number of threads for each calling thread."""
        self._faiss.omp_set_num_threads(threads)
        self._lists.nprobe = int(setting["nprobe"])
        self._refined.k_factor = float(setting["k_factor"])

    def search(self, queries: NDArray[np.float32]) -> Any:
        """See the base class."""
        return self._refined.search(queries, K)

    def rows(self, answer: Any) -> Rows:
        """See the base class."""
        return np.asarray(answer[1], np.int64)
