"""One version of one model: loaded into a graph session of its own, warmed up, run."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import prediction_log_pb2

from model_server.errors import (
    FailedPrecondition,
    InvalidArgument,
    LoadError,
    OpError,
    ServingError,
)
from model_server.tensors import TensorParsingError, decode
from serving_contract import ASSETS_EXTRA, SERVING_DEFAULT, WARMUP_REQUESTS

_MAX_WARMUP_RECORDS = 1000


class Servable:
    """A loaded SavedModel. A session of its own frees everything when it is closed."""

    def __init__(self, directory: Path) -> None:
        """Load and warm up.

        Raises:
            LoadError: it cannot be loaded, or a warm-up record fails.
        """
        self._graph = tf.Graph()
        # Requests have threads already: ops run in these, which saves a third of a small request.
        config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1)
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._calls: dict[tuple[str, tuple[str, ...]], Any] = {}
        try:
            with self._graph.as_default():
                meta = tf.compat.v1.saved_model.load(
                    self._session, [tf.saved_model.SERVING], str(directory)
                )
            self.signatures: dict[str, Any] = dict(meta.signature_def)
            self._warm_up(directory / ASSETS_EXTRA / WARMUP_REQUESTS)
        except ServingError as error:
            self.close()
            raise LoadError(
                f"warm-up of {directory} failed: {error.message}", error.code
            ) from error
        except tf.errors.OpError as error:
            self.close()
            raise LoadError(error.message, error.error_code) from error
        # A loader meets whatever is in the directory: none of it may stop the server.
        except Exception as error:
            self.close()
            raise LoadError(f"{directory}: {error}") from error

    def close(self) -> None:
        """Free the session; nothing may run any more."""
        self._calls.clear()
        self._session.close()
        # A cycle holds them. Left to themselves they would fill the memory that they are in
        # with what outlasts them, version after version.
        del self._session, self._graph
        gc.collect()

    def signature(self, name: str) -> Any:
        """The SignatureDef called ``name``."""
        if name not in self.signatures:
            raise FailedPrecondition(f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(
        self, signature_name: str, inputs: Any, output_filter: Sequence[str]
    ) -> tuple[dict[str, NDArray[Any]], Any]:
        """Answer one request.

        Args:
            signature_name: empty for ``serving_default``.
            inputs: TensorProto by input name.
            output_filter: the outputs asked for; empty for all.

        Returns:
            arrays by output name, and the SignatureDef.
        """
        name = signature_name or SERVING_DEFAULT
        signature = self.signature(name)
        feeds = self._decoded(signature, inputs)
        outputs = _outputs(signature, output_filter)
        try:
            values = self._call(name, signature, outputs)(*feeds)
        except tf.errors.OpError as error:
            raise OpError(error.message, error.error_code) from error
        except (ValueError, TypeError) as error:
            # The session itself minds the rank of what is fed.
            raise InvalidArgument(str(error)) from error
        return dict(zip(outputs, values, strict=True)), signature

    def _decoded(self, signature: Any, inputs: Any) -> list[NDArray[Any]]:
        expected, sent = set(signature.inputs), set(inputs)
        if len(sent) != len(expected):
            raise InvalidArgument(
                f"input size does not match signature: {len(sent)}!={len(expected)} "
                f"len({_set(sent)}) != len({_set(expected)}). "
                f"Sent extra: {_set(sent - expected)}. "
                f"Missing but required: {_set(expected - sent)}."
            )
        arrays = []
        for position, alias in enumerate(sorted(expected)):
            info = signature.inputs[alias]
            if alias not in sent:
                raise InvalidArgument(
                    f"Signature input alias: {alias}(feed name: {info.name}) not found in "
                    f"request's inputs: {_set(sent)}"
                )
            try:
                arrays.append(decode(inputs[alias]))
            except TensorParsingError as error:
                raise InvalidArgument(f"tensor parsing error: {alias}") from error
            if inputs[alias].dtype != info.dtype:
                raise InvalidArgument(
                    f"Expects arg[{position}] to be {_dtype_name(info.dtype)} "
                    f"but {_dtype_name(inputs[alias].dtype)} is provided"
                )
        return arrays

    def _call(self, name: str, signature: Any, outputs: Sequence[str]) -> Any:
        key = (name, tuple(outputs))
        if key not in self._calls:
            self._calls[key] = self._session.make_callable(
                [signature.outputs[output].name for output in outputs],
                feed_list=[signature.inputs[alias].name for alias in sorted(signature.inputs)],
            )
        return self._calls[key]

    def _warm_up(self, path: Path) -> None:
        if not path.exists():
            return
        records = tf.compat.v1.io.tf_record_iterator(str(path))
        for number, record in enumerate(records):
            if number == _MAX_WARMUP_RECORDS:
                raise InvalidArgument(f"more than {_MAX_WARMUP_RECORDS} warm-up records")
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise InvalidArgument("only predict_log warm-up records are supported")
            request = log.predict_log.request
            self.run(request.model_spec.signature_name, request.inputs, request.output_filter)


def _outputs(signature: Any, output_filter: Sequence[str]) -> list[str]:
    if not output_filter:
        return sorted(signature.outputs)
    for position, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {_set(signature.outputs)}."
            )
        if alias in output_filter[:position]:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
    return list(output_filter)


def _dtype_name(dtype: int) -> str:
    """As TensorFlow's C++ side says it: float, not float32."""
    return str(types_pb2.DataType.Name(dtype).removeprefix("DT_").lower())


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"
