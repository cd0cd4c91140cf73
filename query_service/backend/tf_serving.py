"""The TensorFlow Serving client."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from query_service.backend.channel import open_channel
from query_service.backend.tensors import (
    history_tensor,
    int_tensor,
    read_rankings,
    string_tensor,
)
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import (
    ModelServerFault,
    ModelServerUnavailable,
    OutOfTime,
    Overloaded,
    RetrievalError,
    SignatureMissing,
)
from serving_contract import BY_ITEM, BY_USER, BY_USER_AND_HISTORY, HISTORY, ITEM_ID, USER_ID, K
from tfserving_subset.v1 import prediction_pb2 as pb

logger = logging.getLogger(__name__)

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_ERRORS: dict[grpc.StatusCode, type[RetrievalError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: OutOfTime,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: ModelServerUnavailable,
    # There is no such model, or no version of it is loaded yet.
    grpc.StatusCode.NOT_FOUND: ModelServerUnavailable,
    grpc.StatusCode.FAILED_PRECONDITION: ModelServerUnavailable,
    # The server is shutting down.
    grpc.StatusCode.CANCELLED: ModelServerUnavailable,
}
#: The number of characters after which a message from the model server is cut off.
_MAX_DETAILS_CHARACTERS = 500

Metadata: TypeAlias = tuple[tuple[str, str], ...] | None
#: Takes a signature, the queries and their depths. Returns a context manager that surrounds the
#: Predict call and yields the metadata to send with the call.
ObservePredict: TypeAlias = Callable[
    [str, Sequence[Query], Sequence[int]], AbstractContextManager[Metadata]
]


def _unobserved(*_: object) -> AbstractContextManager[Metadata]:
    return contextlib.nullcontext()


class TfServingClient:
    """Calls a model of TensorFlow Serving as a :class:`query_service.backend.batch.BatchModel`.

    Attributes:
        version: The latest version that the model server reported, or None before the first report.
    """

    def __init__(
        self,
        addresses: str,
        model: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        server_name: str = "",
        observe_predict: ObservePredict = _unobserved,
    ) -> None:
        """Create a client for one model. Must be called in a running event loop.

        ``addresses``, ``credentials`` and ``server_name`` are those of
        :func:`query_service.backend.channel.open_channel`.
        """
        self._model = model
        self._observe_predict = observe_predict
        self.version: int | None = None
        self._versions_without_history: set[int | None] = set()
        self._channel = open_channel(addresses, credentials, server_name)
        # gRPC would return None for bytes that it cannot parse, so our methods parse the responses.
        self._predict: grpc.aio.UnaryUnaryMultiCallable[pb.PredictRequest, bytes]
        self._predict = self._channel.unary_unary(
            _PREDICT,
            request_serializer=pb.PredictRequest.SerializeToString,
        )
        self._get_model_status: grpc.aio.UnaryUnaryMultiCallable[pb.GetModelStatusRequest, bytes]
        self._get_model_status = self._channel.unary_unary(
            _GET_MODEL_STATUS,
            request_serializer=pb.GetModelStatusRequest.SerializeToString,
        )

    async def fetch_batch(
        self, kind: QueryKind, queries: Sequence[Query], depths: Sequence[int], deadline: float
    ) -> Sequence[RankedItems]:
        """Send one Predict for all queries; see :class:`query_service.backend.batch.BatchModel`.

        If the model has no signature BY_USER_AND_HISTORY, the ranking is by user alone.
        """
        ids = string_tensor([query.id for query in queries], (len(queries),))
        if kind is QueryKind.ITEM:
            return await self._rank(BY_ITEM, {ITEM_ID: ids}, queries, depths, deadline)
        by_user = {USER_ID: ids}
        if kind is QueryKind.USER:
            return await self._rank(BY_USER, by_user, queries, depths, deadline)
        version_before = self.version
        if version_before not in self._versions_without_history:
            inputs = {USER_ID: ids, HISTORY: history_tensor(queries)}
            try:
                return await self._rank(BY_USER_AND_HISTORY, inputs, queries, depths, deadline)
            except SignatureMissing:
                pass
        rankings = await self._rank(BY_USER, by_user, queries, depths, deadline)
        # The error does not say which version lacks the signature. We know only if the version was
        # the same before and after the error.
        if rankings[0].version == version_before:
            self._remember_without_history(version_before)
        return rankings

    def _remember_without_history(self, version: int) -> None:
        if version not in self._versions_without_history:
            self._versions_without_history.add(version)
            logger.warning(
                "version %d of model %s has no signature %s: recent items are not used",
                version,
                self._model,
                BY_USER_AND_HISTORY,
            )

    async def _rank(
        self,
        signature: str,
        inputs: Mapping[str, pb.Tensor],
        queries: Sequence[Query],
        depths: Sequence[int],
        deadline: float,
    ) -> list[RankedItems]:
        """Send one Predict, and return the ranking of each query."""
        remaining_s = deadline - asyncio.get_running_loop().time()
        if remaining_s <= 0:
            raise OutOfTime("the deadline passed before the model server was called")
        request = pb.PredictRequest(
            model_spec=pb.ModelSpec(name=self._model, signature_name=signature),
            inputs={**inputs, K: int_tensor(depths)},
        )
        try:
            with self._observe_predict(signature, queries, depths) as metadata:
                response = await self._predict(request, timeout=remaining_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _retrieval_error(error) from error
        try:
            rankings = read_rankings(pb.PredictResponse.FromString(response), depths)
        except (ValueError, DecodeError) as error:
            raise ModelServerFault(
                f"the model server's response breaks the serving contract: {error}"
            ) from error
        self.version = rankings[0].version
        return rankings

    async def available(self, timeout_s: float) -> bool:
        """Return True if a version of the model is loaded, and update ``version``."""
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=self._model))
        try:
            data = await self._get_model_status(request, timeout=timeout_s)
            response = pb.GetModelStatusResponse.FromString(data)
        except (grpc.aio.AioRpcError, DecodeError):
            # The server may come back with another model under the same version.
            self._versions_without_history.clear()
            return False
        loaded = [
            status.version
            for status in response.model_version_status
            if status.state == pb.ModelVersionStatus.AVAILABLE
        ]
        # TensorFlow Serving answers Predict with the newest version.
        self.version = max(loaded, default=self.version)
        return bool(loaded)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _retrieval_error(error: grpc.aio.AioRpcError) -> RetrievalError:
    """Return the exception for a status from the model server."""
    code, details = error.code(), (error.details() or "")[:_MAX_DETAILS_CHARACTERS]
    # FAILED_PRECONDITION has other causes as well.
    if code is grpc.StatusCode.FAILED_PRECONDITION and "Serving signature key" in details:
        return SignatureMissing(f"model server: {details}")
    return _ERRORS.get(code, ModelServerFault)(f"model server: {details}")
