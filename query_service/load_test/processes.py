"""Runs the processes that make the load; all of them start when all are connected."""

import contextlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

from query_service.load_test.connection import LoadTestError
from query_service.load_test.load import Load, Plan, Progress
from query_service.load_test.tally import Tally

#: A process says that it is connected; it is told to start, and to stop before its time.
_READY, _START, _STOP = "ready", "start", "stop"
_PROGRESS_INTERVAL_S = 1.0
_CLEAR_LINE = "\r\x1b[K"


def measure(plans: Sequence[Plan], *, show_progress: bool) -> Tally:
    """Run one process per plan, all at the same time; Ctrl-C ends them early.

    ``show_progress`` keeps a progress line on standard error.

    Raises:
        LoadTestError: a process cannot connect, or ended unexpectedly.
    """
    total = Tally()
    ready = 0
    stopping = False
    progress: dict[Connection, Progress] = {}
    with _started(plans) as pipes, _interrupts() as interrupted:
        waiting = list(pipes)
        while waiting:
            if interrupted.is_set() and not stopping:
                stopping = True
                _send(waiting, _STOP)
            # With a timeout, because an interrupt does not end the wait.
            for pipe in wait(waiting, timeout=0.1):
                assert isinstance(pipe, Connection)
                message = _receive(pipe)
                if isinstance(message, LoadTestError):
                    raise message
                if isinstance(message, Tally):
                    total.merge(message)
                    waiting.remove(pipe)
                elif isinstance(message, Progress):
                    progress[pipe] = message
                    if show_progress and len(progress) == len(pipes):
                        _show(progress.values())
                        progress.clear()
                else:
                    ready += 1
                    if ready == len(pipes):
                        _send(pipes, _START)
    if show_progress:
        sys.stderr.write(_CLEAR_LINE)
    return total


@contextlib.contextmanager
def _started(plans: Sequence[Plan]) -> Iterator[list[Connection]]:
    """Start the processes and yield their pipes; end the processes after the block."""
    # A process that runs gRPC's threads must not be forked.
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    # Inherited by the processes from their first moment on, so that only this process gets Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for plan in plans:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(plan, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        signal.signal(signal.SIGINT, before)
        yield pipes
    finally:
        signal.signal(signal.SIGINT, before)
        for process in processes:
            process.terminate()
            process.join()


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Let SIGINT set an event instead of raising, so that it cuts no message in two."""
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _send(pipes: Iterable[Connection], message: str) -> None:
    for pipe in pipes:
        # A process that has ended is noticed when its pipe is read.
        with contextlib.suppress(BrokenPipeError):
            pipe.send(message)


def _receive(pipe: Connection) -> object:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise LoadTestError("a process that makes the load ended unexpectedly") from error


def _show(progress: Iterable[Progress]) -> None:
    seconds = min(one.seconds for one in progress)
    answers = sum(one.answers for one in progress)
    errors = sum(one.errors for one in progress)
    # A rate over the first few milliseconds means nothing.
    text = (
        f"{seconds:.0f} s: {answers / seconds:,.0f} answers/s, {errors:,} errors"
        if seconds >= 0.5
        else "warming up"
    )
    sys.stderr.write(f"{_CLEAR_LINE}{text}")
    sys.stderr.flush()


def _work(plan: Plan, pipe: Connection) -> None:
    """Make the load of one process."""
    # The pipe breaks when the parent process has ended.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        load = Load(plan)
        try:
            load.connect()
        except LoadTestError as error:
            pipe.send(error)
            return
        pipe.send(_READY)
        pipe.send(_run(load, plan, pipe) if pipe.recv() == _START else Tally())


def _run(load: Load, plan: Plan, pipe: Connection) -> Tally:
    load.start()
    end = time.perf_counter() + plan.warm_up_s
    stopped = _wait(end, load, pipe)
    began, cpu_s = time.perf_counter(), time.process_time()
    stopped = stopped or _wait(end + plan.duration_s, load, pipe)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    tally = load.finish(early=stopped)
    tally.cores = [cpu_s / seconds]
    return tally


def _wait(end: float, load: Load, pipe: Connection) -> bool:
    """Report progress until ``end``; return True as soon as the process is told to stop."""
    while (left_s := end - time.perf_counter()) > 0:
        pipe.send(load.progress())
        if pipe.poll(min(left_s, _PROGRESS_INTERVAL_S)):
            return True
    return False
