"""Fuzz target: bytes as the model server's response to a Predict of two queries."""

import array
import asyncio
import math
import weakref
from itertools import pairwise

from query_service.backend.tf_serving import TfServingClient
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerFault
from tests.fuzz.contract import Violation
from tfserving_subset.v1 import prediction_pb2 as pb

DEPTHS = (2, 4)
_QUERIES = [Query(QueryKind.USER, "u", depth) for depth in DEPTHS]


class PredictAnswers:
    """Reads the input as the response to a Predict."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        weakref.finalize(self, self._loop.close)
        self._client = self._loop.run_until_complete(self._made())
        self._answer = b""
        # Replaces the call: returns the bytes that gRPC would have received.
        self._client._predict = self._predict  # type: ignore[assignment]

    def run(self, answer: bytes) -> bool:
        """Tell whether the response was accepted.

        Raises:
            Violation: the backend passed an invalid row on to the core. Unexpected exceptions are
                not caught.
        """
        self._answer = answer
        deadline = self._loop.time() + 60
        fetched = self._client.fetch_batch(QueryKind.USER, _QUERIES, DEPTHS, deadline)
        try:
            rows = self._loop.run_until_complete(fetched)
        except ModelServerFault:
            return False
        for row, depth in zip(rows, DEPTHS, strict=True):
            _check(row, depth)
        return True

    async def _predict(self, *_request: object, **_options: object) -> bytes:
        return self._answer

    @staticmethod
    async def _made() -> TfServingClient:
        return TfServingClient("127.0.0.1:1", "retrieval")


def _check(row: RankedItems, depth: int) -> None:
    for one in row.item_ids:
        one.decode("utf-8")
    if not len(row.item_ids) == len(row.scores) <= depth:
        raise Violation("a row of the wrong size")
    if not all(score < math.inf for score in row.scores):
        raise Violation("an infinite score")
    if any(not one >= after for one, after in pairwise(row.scores)):
        raise Violation("not sorted by score")
    if row.version < 1:
        raise Violation("no version")


def valid_response(*, as_content: bool) -> pb.PredictResponse:
    """Return a valid response, with ``tensor_content`` or with typed values."""
    ids, scores = [b"a", b"b", b"", b"", "é".encode(), b"d", b"e", b"f"], [3.0, 2.0]
    scores += [-math.inf, -math.inf, 4.0, 3.0, 2.0, -1.0]
    response = pb.PredictResponse()
    response.model_spec.version.value = 7
    item_id, score, known = (response.outputs[one] for one in ("item_id", "score", "known"))
    for tensor, dtype, shape in (
        (item_id, pb.DT_STRING, (2, 4)),
        (score, pb.DT_FLOAT, (2, 4)),
        (known, pb.DT_BOOL, (2,)),
    ):
        tensor.dtype = dtype
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
    if as_content:
        item_id.tensor_content = bytes(map(len, ids)) + b"".join(ids)
        score.tensor_content = array.array("f", scores).tobytes()
        known.tensor_content = b"\1\0"
    else:
        item_id.string_val.extend(ids)
        score.float_val.extend(scores)
        known.bool_val.extend([True, False])
    return response


def seeds() -> list[bytes]:
    """Return the inputs that fuzzing starts from."""
    return [valid_response(as_content=content).SerializeToString() for content in (False, True)]
