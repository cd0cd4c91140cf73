"""Writes one SavedModel: signatures, warm-up requests, manifest.

Knows queries, candidate vectors and their ids; not how they were trained.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from serving_contract import (
    ASSETS_EXTRA,
    BY_HISTORY,
    BY_ITEM,
    BY_USER,
    BY_USER_AND_HISTORY,
    BY_VECTOR,
    HISTORY,
    ITEM_ID,
    MANIFEST_JSON,
    SERVING_DEFAULT,
    USER_ID,
    VECTOR,
    WARMUP_REQUESTS,
    K,
)
from trainer.artifact.ids import Ids
from trainer.artifact.query_module import QueryModule
from trainer.artifact.retrieval_module import RetrievalModule, VectorModule
from trainer.data.histories import Histories
from trainer.index.base import Index
from trainer.model.towers.query import QueryWeights

#: Batch size and k of the warm-up requests of every signature.
_WARMUP_SHAPES = ((1, 10), (1, 100), (32, 100))
_EXAMPLES = 32
_EXAMPLE_HISTORY = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class VectorServable:
    """A catalogue of vectors, wherever they come from.

    Attributes:
        candidate_vectors: float32 [N, D].
        item_ids: str objects or UTF-8 bytes [N], distinct.
        item_queries: float32 [N, D], to search similar items with; None: candidate vectors.
    """

    candidate_vectors: NDArray[np.float32]
    item_ids: NDArray[np.object_] | NDArray[np.bytes_]
    item_queries: NDArray[np.float32] | None = None

    def module(self, index: Index) -> VectorModule:
        """All of it, with an index of the candidate vectors."""
        return VectorModule(index, Ids(self.item_ids, "item_ids"), self.item_queries)

    def examples(self) -> dict[str, dict[str, Any]]:
        """Inputs of every signature but ``k``, up to 32 rows each."""
        return {
            BY_ITEM: {ITEM_ID: self.item_ids[:_EXAMPLES].astype(object)},
            BY_VECTOR: {VECTOR: self.candidate_vectors[:_EXAMPLES]},
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Servable(VectorServable):
    """What a trained model that answers is made of.

    Attributes:
        item_ids: str objects [N], distinct.
        query: the query tower; its user vectors in the order of ``user_ids``.
        user_ids: str objects [U], distinct: the known users.
        histories: of these users.
        popularity: float32 [N], training interactions of every item.
    """

    item_ids: NDArray[np.object_]
    query: QueryWeights
    user_ids: NDArray[np.object_]
    histories: Histories
    popularity: NDArray[np.float32]

    def module(self, index: Index) -> RetrievalModule:
        """All of it, with an index of the candidate vectors."""
        items = Ids(self.item_ids, "item_ids")
        queries = QueryModule(self.query, self.user_ids, self.histories, items)
        return RetrievalModule(queries, index, items, self.popularity, self.item_queries)

    def examples(self) -> dict[str, dict[str, Any]]:
        """Inputs of every signature but ``k``, up to 32 rows each."""
        users = self.user_ids[:_EXAMPLES]
        histories = np.resize(self.item_ids[:_EXAMPLES], (_EXAMPLES, _EXAMPLE_HISTORY))
        return {
            **super().examples(),
            BY_USER: {USER_ID: users},
            SERVING_DEFAULT: {USER_ID: users},
            BY_HISTORY: {HISTORY: histories},
            BY_USER_AND_HISTORY: {USER_ID: np.resize(users, _EXAMPLES), HISTORY: histories},
        }


def export(
    servable: VectorServable, index: Index, directory: Path, name: str, manifest: Mapping[str, Any]
) -> None:
    """Write model ``name`` into ``directory``, which must not exist yet."""
    module = servable.module(index)
    tf.saved_model.save(
        module,
        str(directory),
        signatures=module.signatures(),
        options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
    )
    extra = directory / ASSETS_EXTRA
    extra.mkdir()
    _write_warmup(extra / WARMUP_REQUESTS, servable, name)
    text = json.dumps({**manifest, "model": name, "index": index.parameters()}, indent=2)
    (extra / MANIFEST_JSON).write_text(text + "\n", encoding="utf-8")


def _write_warmup(path: Path, servable: VectorServable, name: str) -> None:
    """A TFRecord of PredictionLog: what TensorFlow Serving runs before AVAILABLE."""
    with tf.io.TFRecordWriter(str(path)) as records:
        for signature, inputs in servable.examples().items():
            for batch, k in _WARMUP_SHAPES:
                tensors = {
                    argument: tf.make_tensor_proto(np.resize(values, (batch, *values.shape[1:])))
                    for argument, values in inputs.items()
                }
                tensors[K] = tf.make_tensor_proto([k] * batch, tf.int32)
                request = predict_pb2.PredictRequest(
                    model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                    inputs=tensors,
                )
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                records.write(log.SerializeToString())
