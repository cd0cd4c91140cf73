"""The collector is replaced while the service runs, and cycles still go; heaps are few."""

import asyncio
import gc
import platform
import subprocess
import sys
import weakref

import pytest

from query_service.process import memory
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.conftest import ROOT
from tests.query_service.conftest import Service
from tests.skips import applies_if


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_cycles_are_collected_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_INTERVAL_S", 0.05)

    async def body() -> None:
        tending = asyncio.create_task(memory.tend_garbage())
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


#: Ten threads that hold memory at the same time, and then how many heaps glibc has.
_HEAPS = """
import ctypes, sys, threading
from query_service.process.memory import limit_arenas
if sys.argv[1] == "limited":
    limit_arenas()
together, libc = threading.Barrier(10), ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def hold():
    together.wait()
    assert libc.malloc(5000)
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(10)]
for one in threads: one.start()
for one in threads: one.join()
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@applies_if(platform.libc_ver()[0] == "glibc", "glibc")
def test_threads_share_two_heaps() -> None:
    def heaps(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _HEAPS, how],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        return done.stdout.count("<heap nr=")

    assert heaps("limited") == 2
    assert heaps("as they are") > 2


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
