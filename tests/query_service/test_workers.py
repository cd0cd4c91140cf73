"""Several worker processes on one port: real processes, real sockets."""

import contextlib
import os
import re
import signal
import socket
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

from query_service.cli import main as cli
from query_service.errors import StartError
from query_service.process.cpus import usable_cpus
from query_service.process.sockets import reserve
from query_service.process.supervisor import next_delay_s
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tests.conftest import ROOT, running
from tests.query_service.conftest import FakeModelServer, Service, has_ipv6
from tests.skips import applies_if, not_applicable
from tools.waiting import until

pytestmark = [
    applies_if(sys.platform == "linux", "Linux"),
    pytest.mark.timeout(30),
]


class Workers:
    """A running service with several workers, and channels that are connections of their own."""

    def __init__(self, address: str, process: "subprocess.Popen[str]") -> None:
        self.address = address
        self.process = process
        self.parent = psutil.Process(process.pid)
        self._channels: list[grpc.Channel] = []

    def pids(self) -> set[int]:
        return {child.pid for child in self.parent.children()}

    def listening(self) -> set[int]:
        """The workers that have the port open."""
        return {pid for pid in self.pids() if self._connections(pid, psutil.CONN_LISTEN)}

    def connected(self) -> set[int]:
        """The workers that have accepted a connection, which lasts."""
        return {pid for pid in self.pids() if self._connections(pid, psutil.CONN_ESTABLISHED)}

    def stub(self) -> pb_grpc.RetrievalServiceStub:
        """Over a new connection."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels.append(grpc.insecure_channel(self.address, options))
        return pb_grpc.RetrievalServiceStub(self._channels[-1])

    def stubs_to_all(self) -> list[pb_grpc.RetrievalServiceStub]:
        """Connections, at least one to each worker."""
        stubs = []
        for _ in range(100):
            stubs.append(self.stub())
            assert _ask(stubs[-1]).model_version == 7
            if self.connected() == self.pids():
                return stubs
        raise AssertionError("some worker gets no connections")

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _connections(self, pid: int, status: str) -> list[Any]:
        port = int(self.address.rpartition(":")[2])
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(pid).net_connections("tcp")
            return [one for one in found if one.status == status and one.laddr.port == port]
        return []


def _ask(stub: pb_grpc.RetrievalServiceStub) -> pb.RetrieveResponse:
    return stub.Retrieve(pb.RetrieveRequest(user_id="u1"), timeout=5)


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
            for one in alive:
                one.kill()
            assert not alive, "workers are left"


def test_the_command_line_does_not_import_grpc() -> None:
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


def test_only_the_parent_minds_ctrl_c(model_server: FakeModelServer) -> None:
    with _serving(model_server) as workers:
        for pid in workers.pids():
            blocked = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
            assert blocked
            assert int(blocked[1], 16) & 1 << (signal.SIGINT - 1)


def test_one_worker_is_the_process_itself(model_server: FakeModelServer) -> None:
    with _serving(model_server, count=1) as workers:
        assert not workers.pids()


def test_the_ready_line_names_the_number(model_server: FakeModelServer) -> None:
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


def test_a_killed_worker_is_replaced(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with _serving(model_server) as workers:
        before = workers.pids()
        lasting = workers.stubs_to_all()
        killed = min(before)
        gone = psutil.Process(killed)
        gone.kill()
        # While it dies, what connects to it is reset.
        assert not psutil.wait_procs([gone], timeout=5)[1]
        for _ in range(10):
            assert _ask(workers.stub()).model_version == 7
        until(lambda: len(workers.listening() - {killed}) == 2)
        assert workers.pids() > before - {killed}
        # Clients of the one that died connect again.
        assert all(_ask(stub).model_version == 7 for stub in lasting)
        [new] = workers.pids() - before
        os.kill(new, signal.SIGABRT)
        until(lambda: len(workers.listening() - {killed, new}) == 2)
    log = capfd.readouterr().err
    assert f"worker {killed} ended by signal 9, Killed (the next one starts in 0 s)" in log
    assert f"worker {new} ended by signal 6, Aborted (the next one starts in 0.1 s)" in log


def test_how_long_a_worker_is_away() -> None:
    waits: list[float] = []
    last_s = None
    for _ in range(9):
        last_s = next_delay_s(last_s, lifetime_s=1.0)
        waits.append(last_s)
    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert next_delay_s(5.0, lifetime_s=29.0) == 5
    assert next_delay_s(5.0, lifetime_s=31.0) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_workers_drain(
    model_server: FakeModelServer, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with _serving(model_server, "--slow-ms", "0") as workers:
        stubs = workers.stubs_to_all()
        left = workers.parent.children()
        model_server.delay_s = 0.6
        with futures.ThreadPoolExecutor(len(stubs)) as pool:
            asked = len(model_server.signatures)
            answers = [pool.submit(_ask, stub) for stub in stubs]
            # One Predict in each worker; other requests wait to go into its next one.
            until(lambda: len(model_server.signatures) >= asked + len(left))
            # Twice, and as Ctrl-C does to all processes of the terminal.
            for _ in range(2):
                if number == signal.SIGINT:
                    os.killpg(workers.process.pid, number)
                else:
                    workers.process.send_signal(number)
                time.sleep(0.05)
            assert all(one.result().model_version == 7 for one in answers)
        assert workers.process.wait(5) == 0
        assert not psutil.wait_procs(left, timeout=0)[1]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(left)
    assert all(" INFO draining: " in line for line in lines)


def test_the_port_is_free_while_the_last_request_ends(model_server: FakeModelServer) -> None:
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
            for one in reserve("127.0.0.1", port)[0]:
                one.close()
            assert not answer.done()
            assert answer.result().model_version == 7


def test_workers_do_not_outlive_their_parent(model_server: FakeModelServer) -> None:
    with _serving(model_server) as workers:
        left = workers.parent.children()
        workers.process.kill()
        assert not psutil.wait_procs(left, timeout=5)[1]


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_second_service_on_the_port_is_refused(model_server: FakeModelServer, count: str) -> None:
    with _serving(model_server) as workers:
        done = _failing("--workers", count, "--port", workers.address.rpartition(":")[2])
        # One worker: gRPC adds lines of its own.
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"error: cannot listen on {workers.address}: ")
        if count == "2":
            assert done.stderr.count("\n") == 1
        assert _ask(workers.stub()).model_version == 7


def test_a_port_that_one_process_has_is_refused(service: Service) -> None:
    done = _failing("--workers", "2", "--port", service.address.rpartition(":")[2])
    assert done.stderr == f"error: cannot listen on {service.address}: Address already in use\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "[::1]", "::"])
def test_a_free_port(host: str) -> None:
    if ":" in host and not has_ipv6():
        raise not_applicable("IPv6")
    held, port = reserve(host, 0)
    assert port
    for one in held:
        assert one.getsockname()[1] == port
        one.close()


def test_a_held_port_is_refused_before_anyone_listens() -> None:
    held, port = reserve("127.0.0.1", 0)
    with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: Address already"):
        reserve("127.0.0.1", port)
    for one in held:
        one.close()


def test_a_port_with_connections_that_have_just_ended() -> None:
    """Closed by a server without SO_REUSEPORT: TIME_WAIT, for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            client.recv(1)
    held, same = reserve("127.0.0.1", port)
    assert same == port
    for one in held:
        one.close()


def test_a_host_that_there_is_not() -> None:
    done = _failing("--workers", "2", "--host", "nowhere.invalid", "--port", "0")
    assert done.stderr.startswith("error: cannot listen on nowhere.invalid:0: ")
    assert done.stderr.count("\n") == 1


def test_a_worker_that_cannot_start_ends_the_service() -> None:
    done = _failing("--workers", "2", "--port", "0", "--seen-store", "postgres://127.0.0.1")
    assert done.stdout == ""
    assert done.stderr.startswith(
        "error: --seen-store: there is no such kind of seen store; use sqlite:"
    )
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


_SUPERVISED = """
import os, signal, sys, time
from query_service.errors import StartError
from query_service.process.supervisor import supervise

def run(worker, port, ready):
{run}

def announce(port):
    print("ready", flush=True)

try:
    status = supervise(2, run, "127.0.0.1", 0, grace_s=0.0, on_ready=announce)
except StartError as error:
    sys.exit(f"error: {{error}}")
sys.exit(status)
"""


def _supervising(*lines: str) -> "subprocess.Popen[str]":
    """A supervisor whose workers do this."""
    code = _SUPERVISED.format(run="\n".join(f"    {line}" for line in lines))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise StartError('no room')", "error: no room"),
        ("os._exit(3)", r"error: worker \d+ ended with status 3 before it was ready"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"error: worker \d+ ended by signal 9, Killed before it was ready",
        ),
    ],
)
def test_a_worker_that_ends_before_it_is_ready(line: str, said: str) -> None:
    process = _supervising(line)
    out, error = process.communicate(timeout=10)
    assert (out, process.returncode) == ("", 1)
    assert re.fullmatch(said, error.strip())


def test_it_is_ready_when_all_are(tmp_path: Path) -> None:
    started, late = str(tmp_path / "started"), tmp_path / "late"
    process = _supervising(
        f"with open({started!r}, 'a') as file: file.write('x')",
        f"if os.stat({started!r}).st_size > 1:",
        "    time.sleep(0.5)",
        f"    open({str(late)!r}, 'w').close()",
        "ready(port)",
        "time.sleep(60)",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert late.exists()
    process.terminate()
    assert process.communicate(timeout=8) == ("", "")
    assert process.returncode == 0


def test_a_worker_that_does_not_drain_is_killed() -> None:
    process = _supervising(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "ready(port)", "time.sleep(60)"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    left = psutil.Process(process.pid).children()
    assert len(left) == 2
    process.terminate()
    _, error = process.communicate(timeout=8)
    assert process.returncode == 1
    assert error.count("ended by signal 9, Killed instead of draining") == 2
    assert not psutil.wait_procs(left, timeout=0)[1]


def test_one_that_cannot_start_again_leaves_the_others_alone(tmp_path: Path) -> None:
    started = str(tmp_path / "started")
    process = _supervising(
        f"with open({started!r}, 'a') as file: file.write('x')",
        # The first two.
        f"if os.stat({started!r}).st_size > 2: raise StartError('no room')",
        "ready(port)",
        "time.sleep(60)",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    first, second = psutil.Process(process.pid).children()
    first.kill()
    assert process.stderr is not None
    assert "ended by signal 9, Killed (the next one starts in 0 s)" in process.stderr.readline()
    for delay in ("0.1", "0.2"):
        said = f"ended with status 1: no room (the next one starts in {delay} s)"
        assert said in process.stderr.readline()
    assert process.poll() is None
    assert second.is_running()
    process.terminate()
    process.communicate(timeout=8)
    assert process.returncode == 0


def test_auto_is_the_number_of_usable_cpus(tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    limit = tmp_path / "cpu.max"
    assert usable_cpus(limit) == cpus
    for content, expected in [
        ("max 100000\n", cpus),
        ("6400000 100000\n", min(cpus, 64)),
        ("199999 100000\n", 1),
        ("50000 100000\n", 1),
        ("unexpected\n", cpus),
    ]:
        limit.write_text(content)
        assert usable_cpus(limit) == expected, content


def test_workers_from_flag_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(*arguments: str) -> int:
        parsed = cli.make_parser().parse_args(["serve", *arguments])
        return int(parsed.workers)

    assert workers() == 1
    assert workers("--workers", "3") == 3
    assert workers("--workers", "auto") == usable_cpus()
    monkeypatch.setenv("SHORTLIST_WORKERS", "4")
    assert workers() == 4
    monkeypatch.setenv("SHORTLIST_WORKERS", "auto")
    assert workers() == usable_cpus()
