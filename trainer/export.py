"""Writes one SavedModel: signatures, warm-up requests, manifest.

Knows a query tower, candidate vectors and their ids; not how they were trained.
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
    BY_ITEM,
    BY_USER,
    ITEM_ID,
    MANIFEST_JSON,
    SERVING_DEFAULT,
    USER_ID,
    WARMUP_REQUESTS,
    K,
)
from trainer.index.base import Index
from trainer.serving_module import QueryTower, RetrievalModule

#: Batch size and k of the warm-up requests of every signature.
_WARMUP_SHAPES = ((1, 10), (1, 100), (32, 100))


@dataclass(frozen=True, eq=False)
class Servable:
    """What a model that answers is made of.

    Attributes:
        query_tower: embeds user ids.
        candidate_vectors: float32 [N, D].
        item_ids: str objects [N], distinct.
        popularity: float32 [N], training interactions of every item.
        sample_user_ids: a few known users, for warm-up and verification.
    """

    query_tower: QueryTower
    candidate_vectors: NDArray[np.float32]
    item_ids: NDArray[np.object_]
    popularity: NDArray[np.float32]
    sample_user_ids: NDArray[np.object_]


def export(
    servable: Servable, index: Index, directory: Path, name: str, manifest: Mapping[str, Any]
) -> None:
    """Write model ``name`` into ``directory``, which must not exist yet."""
    module = RetrievalModule(servable.query_tower, index, servable.item_ids, servable.popularity)
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
    signatures = (
        (BY_USER, USER_ID, servable.sample_user_ids),
        (SERVING_DEFAULT, USER_ID, servable.sample_user_ids),
        (BY_ITEM, ITEM_ID, servable.item_ids),
    )
    with tf.io.TFRecordWriter(str(path)) as records:
        for signature, argument, ids in signatures:
            for batch, k in _WARMUP_SHAPES:
                request = predict_pb2.PredictRequest(
                    model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                    inputs={
                        argument: tf.make_tensor_proto(list(np.resize(ids, batch)), tf.string),
                        K: tf.make_tensor_proto([k] * batch, tf.int32),
                    },
                )
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                records.write(log.SerializeToString())
