"""Runs the processes that make the load; all of them start when all are connected."""

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from query_service.load_test.connection import LoadTestError
from query_service.load_test.load import Load, Plan
from query_service.load_test.tally import Tally

_PROGRESS_INTERVAL_S = 1.0
_CLEAR_LINE = "\r\x1b[K"
#: What the processes share: a barrier, an event that ends the load early, and for each process the
#: seconds measured so far, its OK answers and its failed requests. Set in each process.
_shared: tuple[Any, Any, Any]


def measure(plans: Sequence[Plan], *, show_progress: bool) -> Tally:
    """Run one process per plan, all at the same time; Ctrl-C ends them early.

    ``show_progress`` keeps a progress line on standard error.

    Raises:
        LoadTestError: a process cannot connect, or ended unexpectedly.
    """
    # A process that runs gRPC's threads must not be forked.
    context = multiprocessing.get_context("spawn")
    stop, progress = context.Event(), context.Array("d", 3 * len(plans))
    shared = (context.Barrier(len(plans)), stop, progress)
    # Inherited by the processes from their first moment on: only this one handles Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with futures.ProcessPoolExecutor(len(plans), context, _initialise, shared) as pool:
            runs = [pool.submit(_run, number, plan) for number, plan in enumerate(plans)]
            signal.signal(signal.SIGINT, lambda *_: stop.set())
            shown = progress[:]
            while futures.wait(runs, timeout=0.05).not_done:
                if show_progress and progress[:] != shown:
                    shown = progress[:]
                    _show(shown)
    finally:
        signal.signal(signal.SIGINT, handler)
    if show_progress:
        sys.stderr.write(_CLEAR_LINE)
    # One that breaks the barrier for the others has the cause.
    errors = [error for run in runs if (error := run.exception())]
    for error in sorted(errors, key=lambda one: isinstance(one, threading.BrokenBarrierError)):
        if isinstance(error, BrokenProcessPool):
            raise LoadTestError("a process that makes the load ended unexpectedly") from error
        raise error
    total = Tally()
    for run in runs:
        total.merge(run.result())
    return total


def _show(progress: Sequence[float]) -> None:
    seconds, answers, errors = min(progress[::3]), sum(progress[1::3]), sum(progress[2::3])
    # A rate over the first few milliseconds means nothing.
    text = (
        f"{seconds:.0f} s: {answers / seconds:,.0f} answers/s, {errors:,.0f} errors"
        if seconds >= 0.5
        else "warming up"
    )
    sys.stderr.write(f"{_CLEAR_LINE}{text}")
    sys.stderr.flush()


def _initialise(*shared: Any) -> None:
    global _shared
    _shared = shared


def _run(number: int, plan: Plan) -> Tally:
    """Make the load of one process."""
    barrier, stop, progress = _shared
    load = Load(plan)
    try:
        load.connect()
        barrier.wait()
    except BaseException:
        barrier.abort()
        # The threads of an open channel would keep the process from ending.
        load.close()
        raise

    def wait(end: float) -> None:
        while (left_s := end - time.perf_counter()) > 0 and not stop.is_set():
            progress[3 * number : 3 * number + 3] = load.progress()
            stop.wait(min(left_s, _PROGRESS_INTERVAL_S))

    load.start()
    end = time.perf_counter() + plan.warm_up_s
    wait(end)
    began, cpu_s = time.perf_counter(), time.process_time()
    wait(end + plan.duration_s)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    tally = load.finish(early=stop.is_set())
    tally.cores = [cpu_s / seconds] if seconds else []
    return tally
