"""Target: bytes as the model server's answer to a Predict of two queries."""

import array
import asyncio
import math
import weakref
from itertools import pairwise

from query_service.backend.tf_serving import TfServingClient
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.errors import ModelServerFault
from tfserving_subset.v1 import prediction_pb2 as pb

DEPTHS = (2, 4)
_QUERIES = [Query(QueryKind.USER, "u", depth) for depth in DEPTHS]


class Broken(AssertionError):
    """A row that the core must never get."""


class PredictAnswers:
    """:meth:`run` takes the bytes of one answer."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        weakref.finalize(self, self._loop.close)
        self._client = self._loop.run_until_complete(self._made())
        self._answer = b""
        # In place of the call: the bytes that gRPC would have received.
        self._client._predict = self._predict  # type: ignore[assignment]

    def run(self, answer: bytes) -> bool:
        """Whether the answer was taken. Raises Broken, or whatever is no ModelServerFault."""
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
        raise Broken("a row of another size")
    if not all(score < math.inf for score in row.scores):
        raise Broken("a score that is not finite")
    if any(not one >= after for one, after in pairwise(row.scores)):
        raise Broken("not best first")
    if row.version < 1:
        raise Broken("no version")


def good(*, as_content: bool) -> pb.PredictResponse:
    """An answer by the book."""
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
    """A few inputs to begin with."""
    return [good(as_content=content).SerializeToString() for content in (False, True)]
