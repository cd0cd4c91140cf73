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
    HISTORY,
    ITEM_ID,
    MANIFEST_JSON,
    SERVING_DEFAULT,
    USER_ID,
    WARMUP_REQUESTS,
    K,
)
from trainer.data.histories import Histories
from trainer.index.base import Index
from trainer.serving.queries import QueryModule
from trainer.serving.retrieval import RetrievalModule
from trainer.towers.query import QueryWeights

#: Batch size and k of the warm-up requests of every signature.
_WARMUP_SHAPES = ((1, 10), (1, 100), (32, 100))
_WARMUP_HISTORY = 3


@dataclass(frozen=True, eq=False)
class Servable:
    """What a model that answers is made of.

    Attributes:
        query: the query tower; its user vectors in the order of ``user_ids``.
        user_ids: str objects [U], distinct: the known users.
        histories: of these users.
        candidate_vectors: float32 [N, D].
        item_ids: str objects [N], distinct.
        popularity: float32 [N], training interactions of every item.
        item_queries: float32 [N, D], to search similar items with; None: candidate vectors.
    """

    query: QueryWeights
    user_ids: NDArray[np.object_]
    histories: Histories
    candidate_vectors: NDArray[np.float32]
    item_ids: NDArray[np.object_]
    popularity: NDArray[np.float32]
    item_queries: NDArray[np.float32] | None = None

    def module(self, index: Index) -> RetrievalModule:
        """All of it, with an index of the candidate vectors."""
        queries = QueryModule(self.query, self.user_ids, self.histories, self.item_ids)
        return RetrievalModule(queries, index, self.item_ids, self.popularity, self.item_queries)


def export(
    servable: Servable, index: Index, directory: Path, name: str, manifest: Mapping[str, Any]
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


def _write_warmup(path: Path, servable: Servable, name: str) -> None:
    """A TFRecord of PredictionLog: what TensorFlow Serving runs before AVAILABLE."""
    with tf.io.TFRecordWriter(str(path)) as records:
        for signature, inputs in _warmup_inputs(servable):
            for batch, k in _WARMUP_SHAPES:
                tensors = {
                    argument: tf.make_tensor_proto(
                        np.resize(values, (batch, *values.shape[1:])).tolist(), tf.string
                    )
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


def _warmup_inputs(servable: Servable) -> list[tuple[str, dict[str, NDArray[np.object_]]]]:
    """Of every signature: its id inputs, as many rows as there may be."""
    users, items = servable.user_ids[:32], servable.item_ids[:32]
    histories = np.resize(items, (32, _WARMUP_HISTORY))
    return [
        (BY_USER, {USER_ID: users}),
        (SERVING_DEFAULT, {USER_ID: users}),
        (BY_ITEM, {ITEM_ID: items}),
        (BY_HISTORY, {HISTORY: histories}),
        (BY_USER_AND_HISTORY, {USER_ID: users, HISTORY: histories}),
    ]
