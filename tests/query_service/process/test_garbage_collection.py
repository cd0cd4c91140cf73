"""Cyclic garbage is collected once a second, and requests leave none."""

import asyncio
import gc
import weakref

import pytest

from query_service.process import garbage_collection
from query_service.telemetry.observer import ObservedRequest
from query_service.transport.call import Call
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import Service


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_cycles_are_collected_periodically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage_collection, "_INTERVAL_S", 0.05)

    async def body() -> None:
        collecting = asyncio.create_task(garbage_collection.run_gc_periodically())
        await asyncio.sleep(0.01)
        assert not gc.isenabled()
        cycle = weakref.ref(_Cycle())
        assert cycle() is not None
        await asyncio.sleep(0.2)
        assert cycle() is None
        collecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await collecting
        assert gc.isenabled()
        assert gc.get_freeze_count() == 0

    asyncio.run(body())


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
