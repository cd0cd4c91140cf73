"""Asks the model server: the only module here that speaks TensorFlow Serving."""

import asyncio
import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from query_service.backend.channel import open_channel
from query_service.backend.tensor_content import decode_numbers, decode_strings
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import (
    ModelServerFault,
    ModelServerUnavailable,
    OutOfTime,
    Overloaded,
    RetrievalError,
    SignatureMissing,
)
from query_service.telemetry.observer import Observer
from serving_contract import (
    BY_ITEM,
    BY_USER,
    BY_USER_AND_HISTORY,
    FILLER_ITEM_ID,
    HISTORY,
    ITEM_ID,
    KNOWN,
    SCORE,
    USER_ID,
    K,
)
from tfserving_subset.v1 import prediction_pb2 as pb

logger = logging.getLogger(__name__)

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_ERRORS: dict[grpc.StatusCode, type[RetrievalError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: OutOfTime,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: ModelServerUnavailable,
    # No such model, or no version of it ready yet.
    grpc.StatusCode.NOT_FOUND: ModelServerUnavailable,
    grpc.StatusCode.FAILED_PRECONDITION: ModelServerUnavailable,
    # The server is on its way out.
    grpc.StatusCode.CANCELLED: ModelServerUnavailable,
}


class TfServingClient:
    """Asks for one model. Made inside a running event loop."""

    def __init__(
        self,
        addresses: str,
        model: str,
        observer: Observer | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        server_name: str = "",
    ) -> None:
        """Where and how: see :func:`query_service.backend.channel.open_channel`."""
        self._addresses = addresses
        self._model = model
        self._observer = observer or Observer()
        #: The version heard of last; None before the first one.
        self.version: int | None = None
        # Those that have no BY_USER_AND_HISTORY.
        self._without_history: set[int | None] = set()
        self._channel = open_channel(addresses, credentials, server_name)
        # Bytes come back: what gRPC cannot parse it gives as None.
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
        """One Predict for all queries. See :class:`query_service.backend.batching.BatchModel`.

        A model older than BY_USER_AND_HISTORY answers by the user alone.
        """
        ids = _strings([query.id for query in queries], (len(queries),))
        if kind is QueryKind.ITEM:
            return await self._ask(BY_ITEM, {ITEM_ID: ids}, depths, deadline)
        if kind is QueryKind.USER:
            return await self._ask(BY_USER, {USER_ID: ids}, depths, deadline)
        before = self.version
        if before not in self._without_history:
            inputs = {USER_ID: ids, HISTORY: _history(queries)}
            try:
                return await self._ask(BY_USER_AND_HISTORY, inputs, depths, deadline)
            except SignatureMissing:
                pass
        rows = await self._ask(BY_USER, {USER_ID: ids}, depths, deadline)
        # Which version refused, the refusal does not say: it is certain only where the
        # version was the same before and after.
        if rows[0].version == before:
            self._note_without_history(before)
        return rows

    def _note_without_history(self, version: int) -> None:
        """Do not ask this version again, and say so once."""
        if version not in self._without_history:
            self._without_history.add(version)
            logger.warning(
                "version %d of model %s has no signature %s: recent items are not used",
                *(version, self._model, BY_USER_AND_HISTORY),
            )

    async def _ask(
        self,
        signature: str,
        inputs: Mapping[str, pb.Tensor],
        depths: Sequence[int],
        deadline: float,
    ) -> list[RankedItems]:
        remaining_s = deadline - asyncio.get_running_loop().time()
        if remaining_s <= 0:
            raise OutOfTime("the deadline passed before the model server was asked")
        k = pb.Tensor(dtype=pb.DT_INT32, tensor_shape=_shape((len(depths),)), int_val=depths)
        request = pb.PredictRequest(
            model_spec=pb.ModelSpec(name=self._model, signature_name=signature),
            inputs={**inputs, K: k},
        )
        try:
            with self._observer.predict(self._addresses, signature, depths) as predict:
                response = await self._predict(
                    request, timeout=remaining_s, metadata=predict.metadata
                )
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        try:
            rows = _rows(pb.PredictResponse.FromString(response), depths)
        except (KeyError, ValueError, DecodeError) as error:
            raise ModelServerFault(
                f"the model server's answer is not understood: {error}"
            ) from error
        self.version = rows[0].version
        return rows

    async def available(self, timeout_s: float) -> bool:
        """Whether some version of the model answers."""
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=self._model))
        try:
            data = await self._get_model_status(request, timeout=timeout_s)
            response = pb.GetModelStatusResponse.FromString(data)
        except (grpc.aio.AioRpcError, DecodeError):
            # What comes back may have another model under the same number.
            self._without_history.clear()
            return False
        ready = [
            one.version
            for one in response.model_version_status
            if one.state == pb.ModelVersionStatus.AVAILABLE
        ]
        # Predict is answered by the newest one.
        self.version = max(ready, default=self.version)
        return bool(ready)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _translated(error: grpc.aio.AioRpcError) -> RetrievalError:
    """What a status of the model server means to us."""
    # As much as a status has room for.
    code, details = error.code(), (error.details() or "")[:500]
    # Other causes have the same code.
    if code is grpc.StatusCode.FAILED_PRECONDITION and "Serving signature key" in details:
        return SignatureMissing(f"model server: {details}")
    return _ERRORS.get(code, ModelServerFault)(f"model server: {details}")


def _shape(sizes: Sequence[int]) -> pb.TensorShape:
    return pb.TensorShape(dim=[pb.TensorShape.Dim(size=size) for size in sizes])


def _strings(values: Iterable[str], sizes: Sequence[int]) -> pb.Tensor:
    return pb.Tensor(
        dtype=pb.DT_STRING,
        tensor_shape=_shape(sizes),
        string_val=[one.encode("utf-8") for one in values],
    )


def _history(queries: Sequence[Query]) -> pb.Tensor:
    """Recent items, [B, H], each row filled up at its end to the longest.

    Filler is two bytes on the wire: the worst batch, one history of 1,000 items beside 255
    of one, sends half a megabyte of it. Not worth a second Predict.
    """
    width = max(len(query.recent) for query in queries)
    rows = [(*query.recent, *[FILLER_ITEM_ID] * (width - len(query.recent))) for query in queries]
    return _strings(itertools.chain.from_iterable(rows), (len(queries), width))


def _rows(response: pb.PredictResponse, depths: Sequence[int]) -> list[RankedItems]:
    """The rows of an answer, each cut to its own depth.

    Raises:
        KeyError: an output is missing.
        ValueError: an output is not what the contract says.
    """
    for name in (ITEM_ID, SCORE, KNOWN):
        if name not in response.outputs:
            raise KeyError(name)
    item_id, score, known = (response.outputs[name] for name in (ITEM_ID, SCORE, KNOWN))
    if (item_id.dtype, score.dtype, known.dtype) != (pb.DT_STRING, pb.DT_FLOAT, pb.DT_BOOL):
        raise ValueError("item_id, score or known is of another type")
    batch = len(depths)
    sizes = [dim.size for dim in item_id.tensor_shape.dim]
    if len(sizes) != 2 or sizes[0] != batch:
        raise ValueError(f"item_id has shape {sizes[:4]} for {batch} ids")
    width = sizes[1]
    # Each tensor comes in one of two encodings, as the server chose. Lists, since every access to
    # a message's own field makes new objects.
    if item_id.tensor_content:
        item_ids = decode_strings(item_id.tensor_content, batch * width)
    else:
        item_ids = list(item_id.string_val)
    if score.tensor_content:
        scores = decode_numbers(score.tensor_content, "f")
    else:
        scores = list(score.float_val)
    if known.tensor_content:
        knowns = decode_numbers(known.tensor_content, "b")
    else:
        knowns = list(known.bool_val)
    if len(item_ids) != batch * width or len(scores) != batch * width or len(knowns) != batch:
        raise ValueError("the sizes of item_id, score and known do not agree")
    # Ids go out as they came: what is no UTF-8 could not be read by anyone. Two ids of which
    # neither is could make one, side by side.
    if not (joined := b"\n".join(item_ids)).isascii():
        joined.decode("utf-8")
    # NaN and infinity have no place in a ranking. Either shows in the sum; the filler's -inf does
    # not.
    if not sum(scores) < math.inf:
        raise ValueError("a score is not a finite number")
    version = response.model_spec.version.value
    if version < 1:
        raise ValueError(f"{version} is no version")
    rows = []
    for index, depth in enumerate(depths):
        start = index * width
        stop = start + min(depth, width)
        ranking = scores[start:stop]
        if ranking != sorted(ranking, reverse=True):
            raise ValueError("a row is not best first")
        rows.append(RankedItems(item_ids[start:stop], ranking, bool(knowns[index]), version))
    return rows
