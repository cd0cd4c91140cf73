"""SavedModels of TensorFlow with ScaNN, ours among them, and the exact product."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.peer import CORES, Peer, Rows
from benchmarks.vectors import IDS, TUNING, VECTORS, K


class Saved(Peer):
    """A SavedModel that is called through a signature and answers with string ids."""

    needs = "tensorflow"
    signature, query, answer = "serving_default", "queries", "ids"

    def model(self, index: Path) -> Path:
        """Return the directory of the SavedModel."""
        return index

    def load(self, data: Path, index: Path) -> None:  # noqa: ARG002
        """See the base class."""
        tf = _tensorflow()
        # Kept because it owns the variables.
        self._loaded = tf.saved_model.load(str(self.model(index)))
        self._ask = self._loaded.signatures[self.signature]
        self._constant = tf.constant

    def inputs(self, queries: NDArray[np.float32]) -> dict[str, Any]:
        """Return the arguments of the signature."""
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
    """The index that `python -m trainer index` exports for a target recall."""

    needs = "scann"
    signature, query, answer = "by_vector", "vector", "item_id"

    def __init__(self, target: float) -> None:
        self.target = target

    def build(self, data: Path, index: Path) -> None:
        """See the base class. The command tunes with other queries than those measured."""
        from trainer.cli.main import main

        arguments = ["index", "--embeddings", str(data / VECTORS), "--ids", str(data / IDS)]
        arguments += ["--queries", str(data / TUNING), "--models-dir", str(index)]
        if main([*arguments, "--set", f"index.target_recall={self.target}"]):
            raise RuntimeError("python -m trainer index failed; its output says why")

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
    """The exact index: one matrix product and its top k, in TensorFlow."""

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


def _tensorflow() -> Any:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import scann.scann_ops.py.scann_ops  # noqa: F401  (registers ScaNN's ops)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(CORES)
    return tf
