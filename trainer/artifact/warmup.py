"""Warm-up requests, which TensorFlow Serving replays before a version becomes AVAILABLE.

The file is a TFRecord of PredictionLog messages:
https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from serving_contract import ASSETS_EXTRA, WARMUP_REQUESTS, K

#: Batch size and k of the warm-up requests of each signature.
SHAPES = ((1, 10), (1, 100), (32, 100))


def write(
    model_directory: Path, model_name: str, examples: Mapping[str, Mapping[str, NDArray[Any]]]
) -> None:
    """Write the warm-up requests of a SavedModel, one per signature and shape.

    Args:
        model_directory: directory of the SavedModel, in which ``assets.extra`` exists.
        model_name: the model that the requests are addressed to.
        examples: arrays [rows, ...] by signature and input name, ``k`` excluded. Rows are
            repeated as often as a batch needs them.
    """
    with tf.io.TFRecordWriter(str(_path(model_directory))) as records:
        for signature, inputs in examples.items():
            for batch_size, k in SHAPES:
                tensors = {
                    name: tf.make_tensor_proto(np.resize(rows, (batch_size, *rows.shape[1:])))
                    for name, rows in inputs.items()
                }
                tensors[K] = tf.make_tensor_proto([k] * batch_size, tf.int32)
                request = predict_pb2.PredictRequest(
                    model_spec=model_pb2.ModelSpec(name=model_name, signature_name=signature),
                    inputs=tensors,
                )
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                records.write(log.SerializeToString())


def read(model_directory: Path) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
    """Yield signature and inputs, ``k`` included, of each warm-up request of a SavedModel.

    Raises:
        tf.errors.OpError: the file is missing or damaged.
    """
    for record in tf.data.TFRecordDataset(str(_path(model_directory))):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {
            name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()
        }
        yield request.model_spec.signature_name, inputs


def _path(model_directory: Path) -> Path:
    return model_directory / ASSETS_EXTRA / WARMUP_REQUESTS
