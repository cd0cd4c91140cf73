"""A loaded version of a model: loads a SavedModel, warms it up, and runs its signatures."""

import gc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import prediction_log_pb2

from model_server.errors import FailedPrecondition, InvalidArgument, LoadError, ServingError
from model_server.tensors import TensorParsingError, decode
from serving_contract import ASSETS_EXTRA, SERVING_DEFAULT, WARMUP_REQUESTS

_MAX_WARMUP_RECORDS = 1000


class Servable:
    """A loaded SavedModel with its own TensorFlow session, so that :meth:`close` frees all memory.

    Attributes:
        signatures: The SignatureDef of each signature, by name.
    """

    def __init__(self, directory: Path) -> None:
        """Load and warm up the SavedModel in ``directory``.

        Raises:
            LoadError: The model cannot be loaded, or a warm-up record fails.
        """
        self._graph = tf.Graph()
        # -1 runs operations in the request's own thread: small requests take a third less time.
        config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1)
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._callables: dict[tuple[str, tuple[str, ...]], Any] = {}
        try:
            with self._graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(
                    self._session, [tf.saved_model.SERVING], str(directory)
                )
            self.signatures: Mapping[str, Any] = dict(meta_graph.signature_def)
            self._warm_up(directory / ASSETS_EXTRA / WARMUP_REQUESTS)
        except ServingError as error:
            self.close()
            raise LoadError(
                f"warm-up of {directory} failed: {error.message}", error.code
            ) from error
        except tf.errors.OpError as error:
            self.close()
            raise LoadError(error.message, error.error_code) from error
        # TensorFlow raises many kinds of exceptions for damaged files; none may stop the server.
        except Exception as error:
            self.close()
            raise LoadError(f"{directory}: {error}") from error

    def close(self) -> None:
        """Free the session. No request may be in flight."""
        self._callables.clear()
        self._session.close()
        # The session and the graph are part of a reference cycle. Without this collection, memory
        # of old versions would accumulate and become fragmented by newer objects.
        del self._session, self._graph
        gc.collect()

    def run(
        self, signature_name: str, inputs: Mapping[str, Any], output_filter: Sequence[str]
    ) -> tuple[dict[str, NDArray[Any]], Any]:
        """Run a signature on the TensorProtos ``inputs``; an empty name means serving_default.

        Return the arrays of the outputs named in ``output_filter``, or of all outputs if it is
        empty, by output name, and the SignatureDef.

        Raises:
            ServingError: The signature is unknown, the request does not fit it, or an operation
                of the graph failed.
        """
        name = signature_name or SERVING_DEFAULT
        if name not in self.signatures:
            raise FailedPrecondition(f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        feeds = _decode_inputs(signature, inputs)
        outputs = _selected_outputs(signature, output_filter)
        try:
            values = self._callable(name, signature, outputs)(*feeds)
        except tf.errors.OpError as error:
            raise ServingError(error.message, error.error_code) from error
        except (ValueError, TypeError) as error:
            # The session checks the ranks of its inputs before it runs the graph.
            raise InvalidArgument(str(error)) from error
        return dict(zip(outputs, values, strict=True)), signature

    def _callable(self, name: str, signature: Any, outputs: Sequence[str]) -> Any:
        """Return the function that runs a signature, from a cache because creating it is slow."""
        key = (name, tuple(outputs))
        if key not in self._callables:
            self._callables[key] = self._session.make_callable(
                [signature.outputs[output].name for output in outputs],
                feed_list=[signature.inputs[alias].name for alias in sorted(signature.inputs)],
            )
        return self._callables[key]

    def _warm_up(self, path: Path) -> None:
        """Run the recorded requests, so that the first real request is not slow."""
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


def _decode_inputs(signature: Any, inputs: Mapping[str, Any]) -> list[NDArray[Any]]:
    """Return the arrays of all inputs, sorted by input name."""
    expected, sent = set(signature.inputs), set(inputs)
    if len(sent) != len(expected):
        raise InvalidArgument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({_in_braces(sent)}) != len({_in_braces(expected)}). "
            f"Sent extra: {_in_braces(sent - expected)}. "
            f"Missing but required: {_in_braces(expected - sent)}."
        )
    arrays = []
    for position, alias in enumerate(sorted(expected)):
        info = signature.inputs[alias]
        if alias not in sent:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in "
                f"request's inputs: {_in_braces(sent)}"
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


def _selected_outputs(signature: Any, output_filter: Sequence[str]) -> list[str]:
    if not output_filter:
        return sorted(signature.outputs)
    for position, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {_in_braces(signature.outputs)}."
            )
        if alias in output_filter[:position]:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
    return list(output_filter)


def _dtype_name(dtype: int) -> str:
    """Return TensorFlow's C++ name of a dtype, such as ``float`` for float32."""
    return str(types_pb2.DataType.Name(dtype).removeprefix("DT_").lower())


def _in_braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
