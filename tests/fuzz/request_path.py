"""Fuzz target: bytes as a request, validated and answered from a model in memory."""

import asyncio
import hashlib
import weakref
from collections.abc import Sequence, Set
from typing import Any

import grpc
import grpc.aio

from query_service.api.methods import Methods
from query_service.api.retrieval_servicer import SERVICE, RetrievalServicer
from query_service.api.validation import Limits
from query_service.core.filters import standard_filters
from query_service.core.query import Query, QueryKind, RankedItems
from query_service.core.retriever import Retriever
from query_service.telemetry.observer import Observer
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.fuzz.contract import BATCH, RETRIEVE, Violation, violations

_CATALOGUE = [*(f"i{n}" for n in range(40)), "é" * 128, "a\0b", "\U0010ffff"]
_EXPECTED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


class _Model:
    """Ranks a small catalogue in an order of its own per query, with duplicates and fillers."""

    async def fetch(self, query: Query, depth: int, deadline: float) -> RankedItems:  # noqa: ARG002
        order = int.from_bytes(hashlib.blake2b(query.id.encode(), digest_size=2).digest(), "big")
        turn = order % len(_CATALOGUE)
        ranking = [one.encode() for one in _CATALOGUE[turn:] + _CATALOGUE[:turn]]
        if order % 3 == 0:
            ranking[3:3] = ranking[:3]
        known = query.id in _CATALOGUE if query.kind is QueryKind.ITEM else order % 4 != 0
        scores = [-float(n) for n in range(len(ranking))]
        # None, one, or as many as there are in a row of the model server's.
        gap = max(0, depth - len(ranking))
        gap = min(gap, order % 5) if order % 5 < 2 else gap
        ids = ranking[:depth] + [b""] * gap
        return RankedItems(ids, scores[:depth] + [-float("inf")] * gap, known, 1 + order)


class _SeenStore:
    async def seen(self, user_id: str, limit: int | None = None) -> Set[bytes] | None:
        if limit is not None and len(user_id) % 2 == 0:
            return None
        return {one.encode() for one in seen(user_id)}

    async def seen_among(self, user_id: str, item_ids: Sequence[bytes]) -> Set[bytes]:
        return {one.encode() for one in seen(user_id)} & set(item_ids)

    async def close(self) -> None:
        pass


def seen(user_id: str) -> Set[str]:
    """Return the items that a user has seen."""
    return set(_CATALOGUE[:: 2 + len(user_id) % 3])


class _Context:
    """The part of a gRPC context that handlers use."""

    code = grpc.StatusCode.OK

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort(self, code: grpc.StatusCode, *_: Any) -> None:
        self.code = code
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> None:
        await self.abort(status.code)


class RequestPath:
    """Answers the input as a request; its first byte selects the method."""

    def __init__(self) -> None:
        observer = Observer()
        servicer = RetrievalServicer(
            Retriever(_Model(), standard_filters(_SeenStore())), Limits(), observer
        )
        methods = Methods(timeout_s=60.0, max_concurrent_requests=10, observer=observer)
        self._handler = methods.handler(SERVICE, servicer.methods)
        self._loop = asyncio.new_event_loop()
        weakref.finalize(self, self._loop.close)
        self._behaviours: dict[str, Any] = {
            name: self._handler.service(_Details(f"/{SERVICE}/{name}")).unary_unary  # type: ignore[arg-type, union-attr]
            for name in (RETRIEVE, BATCH)
        }

    def run(self, data: bytes) -> grpc.StatusCode:
        """Return the status of the request.

        Raises:
            Violation: the status is unexpected, or the response breaks a rule of the API.
        """
        method = BATCH if data[:1] >= b"\x80" else RETRIEVE
        return self.ask(method, data[1:])

    def ask(self, method: str, request: bytes) -> grpc.StatusCode:
        """Answer a serialized request; otherwise like :meth:`run`."""
        context = _Context()
        try:
            answer = self._loop.run_until_complete(self._behaviours[method](request, context))
        except grpc.aio.AbortError:
            if context.code not in _EXPECTED:
                raise Violation(context.code.name) from None
            return context.code
        if found := violations(method, request, answer, seen):
            raise Violation(", ".join(found))
        return grpc.StatusCode.OK


class _Details:
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


def seeds() -> list[bytes]:
    """Return the inputs that fuzzing starts from."""
    queries = [
        pb.RetrieveRequest(user_id="u", max_candidates=3, exclude_item_ids=["i1", "i2"]),
        pb.RetrieveRequest(item_id="i3", viewer_id="v", exclude_seen=True),
        pb.RetrieveRequest(user_id="u", recent_item_ids=["i4", "é", "i4"], exclude_seen=True),
    ]
    batch = pb.BatchRetrieveRequest(requests=[*queries, pb.RetrieveRequest()])
    return [b"\0" + one.SerializeToString() for one in queries] + [
        b"\x80" + batch.SerializeToString()
    ]
