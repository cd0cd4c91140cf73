"""The gRPC services of TensorFlow Serving. Only this module uses gRPC status codes."""

import functools
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from model_server.errors import InvalidArgument, ServingError
from model_server.manager import Manager
from model_server.tensors import encode
from serving_contract import SERVING_DEFAULT

_MAX_MESSAGE_LENGTH = 1024
_SIGNATURE_DEF = "signature_def"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _with_grpc_status(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method that raises a ServingError end its RPC with the status of that error."""

    @functools.wraps(method)
    def run(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except ServingError as error:
            code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
            context.abort(code, error.message[:_MAX_MESSAGE_LENGTH])

    return run


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Implements Predict and GetModelMetadata; all other methods return UNIMPLEMENTED."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    @_with_grpc_status
    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, _context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run a signature and return its outputs."""
        spec = _checked_spec(request)
        with self._manager.use(spec.name, _version(spec)) as (number, servable):
            outputs, signature = servable.run(
                spec.signature_name, request.inputs, request.output_filter
            )
            response = predict_pb2.PredictResponse()
            for name, array in outputs.items():
                encode(array, signature.outputs[name].dtype, response.outputs[name])
        _set_version(response.model_spec, spec.name, number)
        response.model_spec.signature_name = spec.signature_name or SERVING_DEFAULT
        return response

    @_with_grpc_status
    def GetModelMetadata(  # noqa: N802
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        _context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures of a version."""
        spec = _checked_spec(request)
        if not request.metadata_field:
            raise InvalidArgument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise InvalidArgument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._manager.use(spec.name, _version(spec)) as (number, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        _set_version(response.model_spec, spec.name, number)
        return response


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Implements GetModelStatus."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    @_with_grpc_status
    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, _context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the state of one version or of all versions of a model."""
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        spec = request.model_spec
        response = get_model_status_pb2.GetModelStatusResponse()
        number = spec.version.value if spec.HasField("version") else None
        for version in self._manager.status(spec.name, number):
            entry = response.model_version_status.add(
                version=version.number, state=int(version.state)
            )
            entry.status.SetInParent()
            if version.error:
                entry.status.error_code = version.error.code
                entry.status.error_message = version.error.message[:_MAX_MESSAGE_LENGTH]
        return response


def _checked_spec(request: Any) -> Any:
    """Return the ModelSpec of a request; raise InvalidArgument if it does not name a model."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    if not request.model_spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    return request.model_spec


def _version(spec: Any) -> int | None:
    """Return the version that a ModelSpec asks for, or None for the newest version."""
    if spec.HasField("version_label"):
        raise InvalidArgument(f"Unrecognized servable version label: {spec.version_label}")
    return spec.version.value if spec.HasField("version") else None


def _set_version(spec: model_pb2.ModelSpec, name: str, number: int) -> None:
    spec.name = name
    spec.version.value = number
