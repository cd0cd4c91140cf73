"""Writes and reads the warm-up requests of a SavedModel.

TensorFlow Serving replays them before a version becomes AVAILABLE. The file has PredictionLog
messages as TFRecords: https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from serving_contract import ASSETS_EXTRA, WARMUP_REQUESTS, K

#: The batch size and k of each warm-up request. Every signature gets one request of each shape.
SHAPES = ((1, 10), (1, 100), (32, 100))


def write(
    directory: Path, model_name: str, examples: Mapping[str, Mapping[str, NDArray[Any]]]
) -> None:
    """Write one warm-up request for each signature and each of ``SHAPES``.

    Args:
        directory: the directory of the SavedModel.
        model_name: the model name in requests.
        examples: arrays [rows, ...] by signature and input name, without ``k``. Rows are repeated
            to fill a batch.
    """
    with tf.io.TFRecordWriter(str(directory / ASSETS_EXTRA / WARMUP_REQUESTS)) as records:
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


def read(directory: Path) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """Yield the signature and the inputs, including ``k``, of each warm-up request.

    Args:
        directory: the directory of the SavedModel.

    Raises:
        tf.errors.OpError: the file is missing or damaged.
    """
    for record in tf.data.TFRecordDataset(str(directory / ASSETS_EXTRA / WARMUP_REQUESTS)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        yield request.model_spec.signature_name, inputs
