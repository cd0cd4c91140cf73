"""Several worker processes serve on one port."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from query_service.process.sockets import reserve
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tests.conftest import running
from tests.query_service.conftest import FakeModelServer, Service
from tests.skips import applies_if
from tools.processes import ROOT
from tools.waiting import until

pytestmark = [
    applies_if(sys.platform == "linux", "Linux"),
    pytest.mark.timeout(30),
]


class Workers:
    """A service with several workers, and channels of which each is a connection of its own."""

    def __init__(self, address: str, process: "subprocess.Popen[str]") -> None:
        self.address = address
        self.process = process
        self.parent = psutil.Process(process.pid)
        self._channels: list[grpc.Channel] = []

    def pids(self) -> set[int]:
        return {child.pid for child in self.parent.children()}

    def listening(self) -> set[int]:
        """Return the workers that listen on the port."""
        return {pid for pid in self.pids() if self._connections(pid, psutil.CONN_LISTEN)}

    def connected(self) -> set[int]:
        """Return the workers that have open connections."""
        return {pid for pid in self.pids() if self._connections(pid, psutil.CONN_ESTABLISHED)}

    def stub(self) -> pb_grpc.RetrievalServiceStub:
        """Return a stub on a new connection."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels.append(grpc.insecure_channel(self.address, options))
        return pb_grpc.RetrievalServiceStub(self._channels[-1])

    def stubs_to_all(self) -> list[pb_grpc.RetrievalServiceStub]:
        """Return stubs on new connections, at least one to each worker."""
        stubs = []
        for _ in range(100):
            stubs.append(self.stub())
            assert _ask(stubs[-1]).model_version == 7
            if self.connected() == self.pids():
                return stubs
        raise AssertionError("100 connections did not reach every worker")

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _connections(self, pid: int, status: str) -> list[Any]:
        port = int(self.address.rpartition(":")[2])
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(pid).net_connections("tcp")
            return [
                connection
                for connection in found
                if connection.status == status and connection.laddr.port == port
            ]
        return []


def _ask(stub: pb_grpc.RetrievalServiceStub) -> pb.RetrieveResponse:
    response: pb.RetrieveResponse = stub.Retrieve(pb.RetrieveRequest(user_id="u1"), timeout=5)
    return response


@contextlib.contextmanager
def _serving(model_server: FakeModelServer, *more: str, count: int = 2) -> Iterator[Workers]:
    arguments = ("--model-server", f"127.0.0.1:{model_server.port}", "--timeout-s", "5", *more)
    serve = ("serve", "--port", "0", "--workers", str(count), *arguments)
    with running("query_service", *serve) as (address, process):
        workers = Workers(address, process)
        left = workers.parent.children()
        try:
            yield workers
        finally:
            workers.close()
            with contextlib.suppress(psutil.NoSuchProcess):
                left += workers.parent.children()
            if process.poll() is None:
                process.terminate()
                process.wait(10)
            _, alive = psutil.wait_procs(left, timeout=5)
            for process_left in alive:
                process_left.kill()
            assert not alive, "workers are left"


def test_command_line_does_not_import_grpc() -> None:
    code = "import sys, query_service.cli.main; assert 'grpc' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)


def test_all_workers_answer_and_the_parent_has_no_grpc(model_server: FakeModelServer) -> None:
    with _serving(model_server, count=3) as workers:
        assert len(workers.pids()) == 3
        assert workers.listening() == workers.pids()
        workers.stubs_to_all()
        library = "cygrpc"
        for pid in workers.pids():
            assert library in Path(f"/proc/{pid}/maps").read_text()
        assert library not in Path(f"/proc/{workers.process.pid}/maps").read_text()


def test_workers_block_ctrl_c(model_server: FakeModelServer) -> None:
    with _serving(model_server) as workers:
        for pid in workers.pids():
            blocked = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
            assert blocked
            assert int(blocked[1], 16) & 1 << (signal.SIGINT - 1)


def test_single_worker_needs_no_further_process(model_server: FakeModelServer) -> None:
    with _serving(model_server, count=1) as workers:
        assert not workers.pids()


def test_ready_line_has_the_number_of_workers(model_server: FakeModelServer) -> None:
    server = f"127.0.0.1:{model_server.port}"
    command = ["serve", "--port", "0", "--workers", "2", "--model-server", server]
    process = subprocess.Popen(
        [sys.executable, "-m", "query_service", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    rest, _ = process.communicate(timeout=10)
    expected = (
        rf"query service ready on 127\.0\.0\.1:\d+: model retrieval at {re.escape(server)}, "
        r"seen store none, 2 workers\n"
    )
    assert re.fullmatch(expected, line)
    assert rest == ""


def test_killed_worker_is_replaced(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with _serving(model_server) as workers:
        before = workers.pids()
        lasting = workers.stubs_to_all()
        killed = min(before)
        gone = psutil.Process(killed)
        gone.kill()
        # While it dies, new connections to it are reset.
        assert not psutil.wait_procs([gone], timeout=5)[1]
        for _ in range(10):
            assert _ask(workers.stub()).model_version == 7
        until(lambda: len(workers.listening() - {killed}) == 2)
        assert workers.pids() > before - {killed}
        # Its clients have reconnected to another worker.
        assert all(_ask(stub).model_version == 7 for stub in lasting)
        [new] = workers.pids() - before
        os.kill(new, signal.SIGABRT)
        until(lambda: len(workers.listening() - {killed, new}) == 2)
    log = capfd.readouterr().err
    assert f"worker {killed} ended by signal 9, Killed (the next one starts in 0 s)" in log
    assert f"worker {new} ended by signal 6, Aborted (the next one starts in 0.1 s)" in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_all_workers(
    model_server: FakeModelServer, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with _serving(model_server, "--slow-ms", "0") as workers:
        stubs = workers.stubs_to_all()
        left = workers.parent.children()
        model_server.delay_s = 0.6
        with futures.ThreadPoolExecutor(len(stubs)) as pool:
            asked = len(model_server.signatures)
            answers = [pool.submit(_ask, stub) for stub in stubs]
            # Each worker has sent one Predict; its other requests wait for the next batch.
            until(lambda: len(model_server.signatures) >= asked + len(left))
            # Twice; SIGINT to the whole group, like Ctrl-C in a terminal.
            for _ in range(2):
                if number == signal.SIGINT:
                    os.killpg(workers.process.pid, number)
                else:
                    workers.process.send_signal(number)
                time.sleep(0.05)
            assert all(answer.result().model_version == 7 for answer in answers)
        assert workers.process.wait(5) == 0
        assert not psutil.wait_procs(left, timeout=0)[1]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(left)
    assert all(" INFO draining: " in line for line in lines)


def test_port_is_free_while_the_last_request_ends(model_server: FakeModelServer) -> None:
    with _serving(model_server) as workers:
        stub = workers.stub()
        _ask(stub)
        model_server.delay_s = 1.5
        with futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(_ask, stub)
            until(lambda: len(model_server.signatures) == 2)
            workers.process.terminate()
            until(lambda: not workers.listening())
            port = int(workers.address.rpartition(":")[2])
            for bound in reserve("127.0.0.1", port)[0]:
                bound.close()
            assert not answer.done()
            assert answer.result().model_version == 7


def test_workers_do_not_outlive_their_parent(model_server: FakeModelServer) -> None:
    with _serving(model_server) as workers:
        left = workers.parent.children()
        workers.process.kill()
        assert not psutil.wait_procs(left, timeout=5)[1]


@pytest.mark.parametrize("count", ["1", "2"])
def test_second_service_on_the_port_fails_at_startup(
    model_server: FakeModelServer, count: str
) -> None:
    with _serving(model_server) as workers:
        done = _failing("--workers", count, "--port", workers.address.rpartition(":")[2])
        # With one worker, gRPC writes lines of its own.
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"error: cannot listen on {workers.address}: ")
        if count == "2":
            assert done.stderr.count("\n") == 1
        assert _ask(workers.stub()).model_version == 7


def test_port_of_a_single_process_is_refused(service: Service) -> None:
    done = _failing("--workers", "2", "--port", service.address.rpartition(":")[2])
    assert done.stderr == f"error: cannot listen on {service.address}: Address already in use\n"


def test_unknown_host_is_an_error() -> None:
    done = _failing("--workers", "2", "--host", "nowhere.invalid", "--port", "0")
    assert done.stderr.startswith("error: cannot listen on nowhere.invalid:0: ")
    assert done.stderr.count("\n") == 1


def test_worker_that_cannot_start_ends_the_service() -> None:
    done = _failing("--workers", "2", "--port", "0", "--seen-store", "postgres://127.0.0.1")
    assert done.stdout == ""
    assert done.stderr.startswith("error: --seen-store: unknown kind of seen store; use sqlite:")
    assert done.stderr.count("\n") == 1


def _failing(*arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "query_service", "serve", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    return done
