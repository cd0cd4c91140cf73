"""Requests are refused while max_concurrent_requests are in flight."""

from collections.abc import Callable

import grpc

from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service
from tools.waiting import until


def test_batch_counts_as_its_number_of_requests(
    serve: Callable[..., Service], model_server: FakeModelServer
) -> None:
    model_server.delay_s = 0.3
    service = serve(max_concurrent_requests=4)
    one = pb.RetrieveRequest(user_id="u")
    batch = service.stub.BatchRetrieve.future(pb.BatchRetrieveRequest(requests=[one] * 4))
    until(lambda: model_server.remaining_s)
    refused = service.stub.Retrieve.future(one, timeout=5)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(batch.result().results) == 4
    assert service.stub.Retrieve.future(one, timeout=5).code() is grpc.StatusCode.OK
