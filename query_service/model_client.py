"""Asks the model server: the only module here that speaks TensorFlow Serving."""

import array
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from query_service.errors import (
    ModelServerFault,
    ModelServerUnavailable,
    OutOfTime,
    Overloaded,
    RetrievalError,
)
from query_service.retrieval import Kind, Row
from serving_contract import BY_ITEM, BY_USER, ITEM_ID, KNOWN, SCORE, USER_ID, K
from tfserving_subset.v1 import prediction_pb2 as pb

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_SIGNATURES = {Kind.USER: (BY_USER, USER_ID), Kind.ITEM: (BY_ITEM, ITEM_ID)}
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_ERRORS: dict[grpc.StatusCode, type[RetrievalError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: OutOfTime,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: ModelServerUnavailable,
    # No such model, no version of it ready yet, or not this signature.
    grpc.StatusCode.NOT_FOUND: ModelServerUnavailable,
    grpc.StatusCode.FAILED_PRECONDITION: ModelServerUnavailable,
    # The server is on its way out.
    grpc.StatusCode.CANCELLED: ModelServerUnavailable,
}


class TfServingClient:
    """A channel to one model in one model server. Made inside a running event loop."""

    def __init__(self, address: str, model: str) -> None:
        self._model = model
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._predict = self._channel.unary_unary(
            _PREDICT,
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        self._get_model_status = self._channel.unary_unary(
            _GET_MODEL_STATUS,
            request_serializer=pb.GetModelStatusRequest.SerializeToString,
            response_deserializer=pb.GetModelStatusResponse.FromString,
        )

    async def fetch(
        self, kind: Kind, ids: Sequence[str], depths: Sequence[int], deadline: float
    ) -> Sequence[Row]:
        """One Predict for all ids. See :class:`query_service.retrieval.ModelClient`."""
        remaining_s = deadline - asyncio.get_running_loop().time()
        if remaining_s <= 0:
            raise OutOfTime("the deadline passed before the model server was asked")
        signature, argument = _SIGNATURES[kind]
        shape = pb.TensorShape(dim=[pb.TensorShape.Dim(size=len(ids))])
        request = pb.PredictRequest(
            model_spec=pb.ModelSpec(name=self._model, signature_name=signature)
        )
        request.inputs[argument].CopyFrom(
            pb.Tensor(
                dtype=pb.DT_STRING,
                tensor_shape=shape,
                string_val=[one.encode("utf-8") for one in ids],
            )
        )
        request.inputs[K].CopyFrom(pb.Tensor(dtype=pb.DT_INT32, tensor_shape=shape, int_val=depths))
        try:
            response = await self._predict(request, timeout=remaining_s)
        except grpc.aio.AioRpcError as error:
            raised = _ERRORS.get(error.code(), ModelServerFault)
            raise raised(f"model server: {error.details()}") from error
        try:
            return _rows(response, depths)
        except (KeyError, ValueError, DecodeError) as error:
            raise ModelServerFault(
                f"the model server's answer is not understood: {error}"
            ) from error

    async def available(self, timeout_s: float) -> bool:
        """Whether some version of the model answers."""
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=self._model))
        try:
            response = await self._get_model_status(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return any(
            version.state == pb.ModelVersionStatus.AVAILABLE
            for version in response.model_version_status
        )

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _rows(response: pb.PredictResponse, depths: Sequence[int]) -> list[Row]:
    """The rows of an answer, each cut to its own depth."""
    for name in (ITEM_ID, SCORE, KNOWN):
        if name not in response.outputs:
            raise KeyError(name)
    item_id, score = response.outputs[ITEM_ID], response.outputs[SCORE]
    batch = len(depths)
    sizes = [dim.size for dim in item_id.tensor_shape.dim]
    if len(sizes) != 2 or sizes[0] != batch:
        raise ValueError(f"item_id has shape {sizes} for {batch} ids")
    width = sizes[1]
    item_ids, scores = item_id.string_val, _values(score, "f", score.float_val)
    known = _values(response.outputs[KNOWN], "b", response.outputs[KNOWN].bool_val)
    if len(item_ids) != batch * width or len(scores) != batch * width or len(known) != batch:
        raise ValueError("the sizes of item_id, score and known do not agree")
    version = response.model_spec.version.value
    rows = []
    for index, depth in enumerate(depths):
        start = index * width
        stop = start + min(depth, width)
        rows.append(
            Row(
                item_ids=[one.decode("utf-8") for one in item_ids[start:stop]],
                scores=scores[start:stop],
                known=bool(known[index]),
                version=version,
            )
        )
    return rows


def _values(tensor: pb.Tensor, typecode: str, typed: Any) -> Any:
    """Numbers of a tensor, whichever of the two encodings the server chose."""
    if not tensor.tensor_content:
        return typed
    values = array.array(typecode)
    values.frombytes(tensor.tensor_content)
    if sys.byteorder == "big":
        values.byteswap()
    return values
