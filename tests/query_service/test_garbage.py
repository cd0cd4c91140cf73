"""The collector is replaced while the service runs, and cycles still go."""

import asyncio
import gc
import weakref

import pytest

from query_service.workers import garbage


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
