"""The implementation of retrieval.v1.RetrievalService."""

from __future__ import annotations

import asyncio
from typing import Any

from query_service.api import validation, wire
from query_service.api.encoding import encode_response
from query_service.api.methods import Method
from query_service.api.statuses import error_status, status_name
from query_service.api.validation import Limits
from query_service.core.retriever import Retriever
from query_service.errors import RetrievalError
from query_service.telemetry.observer import Observer
from retrieval.v1 import retrieval_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name


class RetrievalServicer:
    """Answers retrieval requests.

    Attributes:
        methods: The methods of the service by name.
    """

    def __init__(self, retriever: Retriever, limits: Limits, observer: Observer) -> None:
        self._retriever = retriever
        self._observer = observer
        self._limits = limits
        self.methods: dict[str, Method[Any]] = {
            "Retrieve": Method(pb.RetrieveRequest, self._retrieve, check=wire.check_request),
            "BatchRetrieve": Method(
                pb.BatchRetrieveRequest,
                self._batch_retrieve,
                lambda batch: len(batch.requests),
                wire.check_batch,
            ),
        }

    async def _retrieve(self, request: pb.RetrieveRequest, deadline: float) -> bytes:
        query = validation.query(request, self._limits)
        candidates = await self._retriever.retrieve(query, deadline)
        self._observer.record_answer(candidates)
        return encode_response(candidates)

    async def _batch_retrieve(self, request: pb.BatchRetrieveRequest, deadline: float) -> bytes:
        validation.check_batch(request)
        outcomes = [self._outcome(single, deadline) for single in request.requests]
        response = pb.BatchRetrieveResponse()
        counters = self._observer.metrics.batch_results
        for outcome in await asyncio.gather(*outcomes):
            result = response.results.add()
            if isinstance(outcome, RetrievalError):
                result.error.CopyFrom(error_status(outcome))
                counters[status_name(outcome)].add()
            else:
                counters["OK"].add()
                result.response.MergeFromString(outcome)
        return response.SerializeToString()

    async def _outcome(
        self, request: pb.RetrieveRequest, deadline: float
    ) -> bytes | RetrievalError:
        """Return the response to one request of a batch, or its error."""
        try:
            return await self._retrieve(request, deadline)
        except RetrievalError as error:
            return error
