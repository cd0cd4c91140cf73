"""The collector is replaced while the service runs, and cycles still go."""

import asyncio
import gc
import weakref

import pytest

from query_service.workers import garbage
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import Service


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_cycles_are_collected_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_INTERVAL_S", 0.05)

    async def body() -> None:
        tending = asyncio.create_task(garbage.tend_garbage())
        await asyncio.sleep(0.01)
        assert not gc.isenabled()
        cycle = weakref.ref(_Cycle())
        assert cycle() is not None
        await asyncio.sleep(0.2)
        assert cycle() is None
        tending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await tending
        assert gc.isenabled()
        assert gc.get_freeze_count() == 0

    asyncio.run(body())


def test_an_answered_request_leaves_no_cycles(service: Service) -> None:
    def ask() -> None:
        for _ in range(20):
            service.stub.Retrieve(pb.RetrieveRequest(user_id="u1"))

    ask()
    gc.collect()
    gc.disable()
    try:
        ask()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(one).__name__ for one in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left & {"Call", "Task", "ObservedRequest", "Row"}
