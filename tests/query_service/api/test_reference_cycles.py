"""Requests leave no garbage that only the garbage collector could free."""

import asyncio
import gc

from query_service.telemetry.observer import ObservedRequest
from query_service.transport.call import Call
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import Service


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_answered_request_leaves_no_cycles(service: Service) -> None:
    def ask() -> None:
        for _ in range(20):
            service.stub.Retrieve(pb.RetrieveRequest(user_id="u1"))

    ask()
    gc.collect()
    gc.disable()
    try:
        ask()
        _Cycle()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        garbage = list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    # The cycle made on purpose shows that the garbage was recorded.
    assert any(isinstance(one, _Cycle) for one in garbage)
    assert not [one for one in garbage if isinstance(one, Call | ObservedRequest | asyncio.Task)]
