"""tensorflow.serving's services: the only place here that speaks gRPC status codes."""

from collections.abc import Callable
from typing import Any, NoReturn

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

_MAX_MESSAGE = 1024
_SIGNATURE_DEF = "signature_def"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other methods are UNIMPLEMENTED."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def Predict(  # noqa: N802
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run one signature of one version."""
        return _answer(context, lambda: self._predict(request))

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of one version."""
        return _answer(context, lambda: self._metadata(request))

    def _predict(self, request: Any) -> predict_pb2.PredictResponse:
        spec = _spec(request)
        with self._manager.use(spec.name, self._number(spec)) as (number, servable):
            outputs, signature = servable.run(
                spec.signature_name, request.inputs, request.output_filter
            )
            response = predict_pb2.PredictResponse()
            for name, array in outputs.items():
                encode(array, signature.outputs[name].dtype, response.outputs[name])
        _fill(response.model_spec, spec.name, number)
        response.model_spec.signature_name = spec.signature_name or SERVING_DEFAULT
        return response

    def _metadata(self, request: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:
        spec = _spec(request)
        if not request.metadata_field:
            raise InvalidArgument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise InvalidArgument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._manager.use(spec.name, self._number(spec)) as (number, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        _fill(response.model_spec, spec.name, number)
        return response

    def _number(self, spec: Any) -> int | None:
        if spec.HasField("version_label"):
            self._manager.label(spec.version_label)
        return spec.version.value if spec.HasField("version") else None


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of the versions of one model."""
        return _answer(context, lambda: self._status(request))

    def _status(self, request: Any) -> get_model_status_pb2.GetModelStatusResponse:
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        spec = request.model_spec
        number = spec.version.value if spec.HasField("version") else None
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in self._manager.status(spec.name, number):
            entry = response.model_version_status.add(
                version=version.number, state=int(version.state)
            )
            entry.status.SetInParent()
            if version.error:
                entry.status.error_code = version.error.code
                entry.status.error_message = version.error.message[:_MAX_MESSAGE]
        return response


def _answer(context: grpc.ServicerContext, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ServingError as error:
        _abort(context, error)


def _abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    context.abort(_CODES.get(error.code, grpc.StatusCode.UNKNOWN), error.message[:_MAX_MESSAGE])
    raise AssertionError("abort() raises")


def _spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    if not request.model_spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    return request.model_spec


def _fill(spec: model_pb2.ModelSpec, name: str, number: int) -> None:
    spec.name = name
    spec.version.value = number
