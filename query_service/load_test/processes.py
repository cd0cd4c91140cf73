"""Runs the load in several processes, which start sending at the same time."""

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
from query_service.load_test.load import Load
from query_service.load_test.plan import Plan
from query_service.load_test.tally import Tally

_POLL_INTERVAL_S = 0.05
_PROGRESS_INTERVAL_S = 1.0
_CLEAR_LINE = "\r\x1b[K"
#: In each process: a barrier that all processes pass once they are connected, an event that ends
#: the load early, and an array with the three numbers of ``Load.progress`` for each process.
_shared: tuple[Any, Any, Any]


def measure(plans: Sequence[Plan], *, show_progress: bool) -> Tally:
    """Run one process per plan, and return the sum of their counts. Ctrl-C ends the load early.

    If ``show_progress`` is set, standard error shows a progress line.

    Raises:
        LoadTestError: A process cannot connect, or ended unexpectedly.
    """
    # Processes must not be forked from a process that runs gRPC's threads.
    context = multiprocessing.get_context("spawn")
    stop, progress = context.Event(), context.Array("d", 3 * len(plans))
    shared = (context.Barrier(len(plans)), stop, progress)
    # Child processes inherit the ignored SIGINT, so that only this process handles Ctrl-C.
    previous_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with futures.ProcessPoolExecutor(len(plans), context, _set_shared, shared) as pool:
            runs = [pool.submit(_run, number, plan) for number, plan in enumerate(plans)]
            signal.signal(signal.SIGINT, lambda *_: stop.set())
            shown = progress[:]
            while futures.wait(runs, _POLL_INTERVAL_S).not_done:
                if show_progress and progress[:] != shown:
                    shown = progress[:]
                    _show(shown)
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    if show_progress:
        sys.stderr.write(_CLEAR_LINE)
    total = Tally()
    try:
        for run in runs:
            total.merge(run.result())
    except BrokenProcessPool as error:
        raise LoadTestError("a process of the load test ended unexpectedly") from error
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


def _set_shared(*shared: Any) -> None:
    global _shared
    _shared = shared


def _run(number: int, plan: Plan) -> Tally:
    """Run the load of process ``number``, and return its counts."""
    barrier, stop, progress = _shared
    load = Load(plan)
    try:
        load.connect()
        barrier.wait()
    except BaseException as error:
        barrier.abort()
        # The threads of an open channel would keep the process from ending.
        load.close()
        if isinstance(error, threading.BrokenBarrierError):
            # Another process has failed, and raises the cause.
            return Tally()
        raise

    def wait_until(end: float) -> None:
        while (left_s := end - time.perf_counter()) > 0 and not stop.is_set():
            progress[3 * number : 3 * number + 3] = load.progress()
            stop.wait(min(left_s, _PROGRESS_INTERVAL_S))

    load.start()
    warm_up_end = time.perf_counter() + plan.warm_up_s
    wait_until(warm_up_end)
    begun, cpu_s = time.perf_counter(), time.process_time()
    wait_until(warm_up_end + plan.duration_s)
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_s
    tally = load.finish(early=stop.is_set())
    tally.cores = [cpu_s / seconds] if seconds else []
    return tally
