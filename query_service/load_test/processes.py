"""Runs the processes that make the load: all begin when all are connected."""

import contextlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

from query_service.load_test.load import BenchError, Load, Plan, Progress
from query_service.load_test.tally import Tally

#: What a process says when it is connected; what it is told then, and to end it early.
_READY, _GO, _STOP = "ready", "go", "stop"
_PROGRESS_EVERY_S = 1.0
_CLEAR_LINE = "\r\x1b[K"


def measure(plans: Sequence[Plan], *, show: bool) -> Tally:
    """Run a process for each plan, all at the same time; Ctrl-C ends them early.

    ``show`` keeps a line about the progress on standard error.

    Raises:
        BenchError: a process cannot connect, or has ended by itself.
    """
    total = Tally()
    ready = 0
    told_to_stop = False
    progress: dict[Connection, Progress] = {}
    with _started(plans) as pipes, _interrupts() as interrupted:
        waiting = list(pipes)
        while waiting:
            if interrupted.is_set() and not told_to_stop:
                told_to_stop = True
                _tell(waiting, _STOP)
            # Not for ever: an interrupt does not end the waiting.
            for pipe in wait(waiting, timeout=0.1):
                assert isinstance(pipe, Connection)
                message = _received(pipe)
                if isinstance(message, BenchError):
                    raise message
                if isinstance(message, Tally):
                    total.merge(message)
                    waiting.remove(pipe)
                elif isinstance(message, Progress):
                    progress[pipe] = message
                    if show and len(progress) == len(pipes):
                        _show(progress.values())
                        progress.clear()
                else:
                    ready += 1
                    if ready == len(pipes):
                        _tell(pipes, _GO)
    if show:
        sys.stderr.write(_CLEAR_LINE)
    return total


@contextlib.contextmanager
def _started(plans: Sequence[Plan]) -> Iterator[list[Connection]]:
    """The processes' pipes; none of the processes is left at the end."""
    # A process with gRPC's threads in it must not be forked.
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    # Inherited by the processes from their first moment on: Ctrl-C is for this one alone.
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
    """Set by SIGINT, which raises nothing meanwhile: no message is cut in two."""
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(pipes: Iterable[Connection], message: str) -> None:
    for pipe in pipes:
        # One that has ended shows when it is read from.
        with contextlib.suppress(BrokenPipeError):
            pipe.send(message)


def _received(pipe: Connection) -> object:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise BenchError("a load generating process has ended by itself") from error


def _show(progress: Iterable[Progress]) -> None:
    seconds = min(one.seconds for one in progress)
    answers = sum(one.answers for one in progress)
    errors = sum(one.errors for one in progress)
    # A rate of the first milliseconds would be none.
    text = (
        f"{seconds:.0f} s: {answers / seconds:,.0f} answers/s, {errors:,} errors"
        if seconds >= 0.5
        else "warming up"
    )
    sys.stderr.write(f"{_CLEAR_LINE}{text}")
    sys.stderr.flush()


def _work(plan: Plan, pipe: Connection) -> None:
    """What a process does."""
    # The command is gone, so there is nobody to tell.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        load = Load(plan)
        try:
            load.connect()
        except BenchError as error:
            pipe.send(error)
            return
        pipe.send(_READY)
        pipe.send(_loaded(load, plan, pipe) if pipe.recv() == _GO else Tally())


def _loaded(load: Load, plan: Plan, pipe: Connection) -> Tally:
    load.start()
    ends = time.perf_counter() + plan.warm_up_s
    stopped = _wait(ends, load, pipe)
    began, cpu_s = time.perf_counter(), time.process_time()
    stopped = stopped or _wait(ends + plan.duration_s, load, pipe)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    tally = load.finish(early=stopped)
    tally.cores = [cpu_s / seconds]
    return tally


def _wait(ends: float, load: Load, pipe: Connection) -> bool:
    """Until that time, in ``time.perf_counter()``; True as soon as the process is told to stop."""
    while (left_s := ends - time.perf_counter()) > 0:
        pipe.send(load.progress())
        if pipe.poll(min(left_s, _PROGRESS_EVERY_S)):
            return True
    return False
