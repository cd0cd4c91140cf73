"""``bench`` against a real service."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from query_service.cli import main as cli
from query_service.load_test import processes, report
from query_service.load_test.connection import LoadTestError
from query_service.load_test.plan import Plan, make_plans, read_ids
from query_service.load_test.requests import SERVICE
from query_service.load_test.tally import Tally
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service
from tools.processes import ROOT
from tools.waiting import until

Bench = Callable[..., dict[str, Any]]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.txt"
    path.write_text("u1\n\nu2\r\n  \nu3")
    return path


@pytest.fixture
def bench(service: Service, users: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Return a function that runs ``bench --json``. Its results include the exit ``status``."""

    def run(*options: str) -> dict[str, Any]:
        ids = [] if "--items" in options else ["--users", str(users)]
        arguments = ["bench", "--address", service.address, *ids, "--json", *options]
        status = cli.main(arguments)
        figures: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {"status": status, **figures}

    return run


class Recorder:
    """A service with one fixed answer that records callers and user ids.

    Attributes:
        called: Is called with each request before it is answered.
        ended: The number of calls that have ended.
    """

    def __init__(self, threads: int = 1) -> None:
        self.answer = pb.RetrieveResponse(candidates=[pb.Candidate(item_id="i1")])
        self.peers: set[str] = set()
        self.users: list[str] = []
        self.called: Callable[[], object] = lambda: None
        self.ended = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(threads))
        handler = grpc.unary_unary_rpc_method_handler(
            self._retrieve,
            request_deserializer=pb.RetrieveRequest.FromString,
            response_serializer=pb.RetrieveResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Retrieve": handler}),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _retrieve(
        self, request: pb.RetrieveRequest, context: grpc.ServicerContext
    ) -> pb.RetrieveResponse:
        context.add_callback(self._count_ended)
        self.peers.add(context.peer())
        self.users.append(request.user_id)
        self.called()
        return self.answer

    def _count_ended(self) -> None:
        self.ended += 1


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.stop()


def _ids(path: Path, *ids: str) -> str:
    path.write_text("\n".join(ids))
    return str(path)


def _query_count(model_server: FakeModelServer) -> int:
    """Return the number of queries that the model server has received."""
    return sum(len(depths) for depths in model_server.depths)


def test_closed_loop_measures_requests_and_latencies(
    bench: Bench, model_server: FakeModelServer
) -> None:
    model_server.delay_s = 0.05
    results = bench("--concurrency", "4", "--duration", "1", "--warm-up", "0.2", "-k", "10")
    # Each of the 4 in flight takes at least 50 ms; the first was sent before the measured second.
    assert 0 < results["requests"] == results["answers"] <= 4 * (1 / 0.05 + 1)
    assert results["requests_per_s"] == pytest.approx(results["requests"], rel=0.01)
    assert results["requests"] < _query_count(model_server)
    assert results["unfinished"] <= 4
    latency = results["latency_ms"]
    assert 49.5 <= latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert results["candidates_per_answer"] == 10
    assert (results["popularity_share"], results["model_versions"]) == (
        0,
        {"7": results["answers"]},
    )
    assert (results["errors"], results["status"]) == ({}, 0)


def test_closed_loop_keeps_as_many_requests_in_flight_as_its_concurrency(users: Path) -> None:
    recorder = Recorder(threads=4)
    four_in_flight = threading.Barrier(4)
    # No request is answered before four are in flight, each time again.
    recorder.called = lambda: four_in_flight.wait(120)
    arguments = ["bench", "--address", recorder.address, "--users", str(users)]
    assert cli.main([*arguments, "--concurrency", "4", "--duration", "0.5", "--warm-up", "0"]) == 0
    four_in_flight.abort()
    recorder.stop()
    assert len(recorder.users) > 8


def test_closed_loop_has_no_more_requests_in_flight_than_its_concurrency(
    serve: Callable[..., Service],
    model_server: FakeModelServer,
    users: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The service refuses one more.
    service = serve(max_concurrent_requests=3)
    arguments = ["bench", "--address", service.address, "--users", str(users), "--json"]
    arguments += ["--warm-up", "0", "--duration", "0.5"]
    assert cli.main([*arguments, "--concurrency", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == {}
    answer = threading.Event()
    model_server.called = lambda _: answer.wait(120)
    assert cli.main([*arguments, "--concurrency", "8"]) == 1
    answer.set()
    refused = json.loads(capsys.readouterr().out)["errors"]["RESOURCE_EXHAUSTED"]
    assert refused["count"] >= 5
    assert refused["example"] == "too many requests are in flight"


def test_open_loop_sends_all_requests_of_its_rate(
    bench: Bench, model_server: FakeModelServer
) -> None:
    results = bench("--rate", "80", "--duration", "1", "--warm-up", "0.5")
    assert results["requests"] == 80
    assert _query_count(model_server) == 120
    assert results["seconds"] >= 1
    assert results["requests_per_s"] == pytest.approx(80 / results["seconds"])


def test_errors_are_counted_by_status(bench: Bench, tmp_path: Path) -> None:
    items = _ids(tmp_path / "items.txt", "i1", "nothing")
    results = bench("--items", items, "--rate", "40", "--duration", "0.5", "--warm-up", "0")
    assert (results["requests"], results["status"]) == (10, 0)
    assert results["errors"]["NOT_FOUND"]["count"] == 10
    assert "'nothing'" in results["errors"]["NOT_FOUND"]["example"]
    # The query item itself is not a candidate.
    assert results["candidates_per_answer"] == 49


def test_exit_status_is_1_without_an_answer(bench: Bench, model_server: FakeModelServer) -> None:
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "gone")
    results = bench("--rate", "40", "--duration", "0.5", "--warm-up", "0")
    assert (results["requests"], results["status"], results["latency_ms"]["max"]) == (0, 1, 0)
    assert results["errors"] == {"UNAVAILABLE": {"count": 20, "example": "model server: gone"}}


def test_calls_past_the_deadline_are_errors(bench: Bench, model_server: FakeModelServer) -> None:
    answer = threading.Event()
    model_server.called = lambda _: answer.wait(120)
    options = ("--rate", "20", "--duration", "0.5", "--warm-up", "0", "--timeout-s", "1")
    results = bench(*options)
    answer.set()
    assert results["errors"]["DEADLINE_EXCEEDED"]["count"] == 10


def test_batch_counts_answers_and_errors_of_single_requests(
    bench: Bench, model_server: FakeModelServer, tmp_path: Path
) -> None:
    model_server.known = False
    window = ("--rate", "20", "--duration", "0.5", "--warm-up", "0")
    results = bench("--batch", "4", *window)
    assert (results["requests"], results["answers"], _query_count(model_server)) == (10, 40, 40)
    assert results["answers_per_s"] == pytest.approx(4 * results["requests_per_s"])
    assert results["popularity_share"] == 1
    # An OK call may hold a result that is an error.
    model_server.known = True
    items = _ids(tmp_path / "items.txt", "i1", "i2", "nothing", "i3")
    results = bench("--batch", "4", "--items", items, *window)
    assert (results["requests"], results["answers"]) == (10, 30)
    assert results["errors"]["NOT_FOUND"]["count"] == 10
    # A failed call counts all of its requests.
    results = bench("--batch", "257", *window)
    assert results["errors"]["INVALID_ARGUMENT"]["count"] == 2570
    assert (results["requests"], results["status"]) == (0, 1)


def test_exclusions_are_sent(bench: Bench, tmp_path: Path) -> None:
    one = ("--users", _ids(tmp_path / "u1.txt", "u1"))
    window = ("--rate", "20", "--duration", "0.3", "--warm-up", "0")
    excluded = ("--exclude", _ids(tmp_path / "excluded.txt", "i1", "i3", "i4", "none"))
    # u1 has seen i0, i2 and i4.
    assert bench(*one, *window)["candidates_per_answer"] == 50
    assert bench(*one, *window, "--exclude-seen")["candidates_per_answer"] == 47
    assert bench(*one, *window, *excluded)["candidates_per_answer"] == 47
    assert bench(*one, *window, *excluded, "--exclude-seen")["candidates_per_answer"] == 45


def test_two_processes_share_the_load(bench: Bench, model_server: FakeModelServer) -> None:
    results = bench("--processes", "2", "--rate", "61", "--duration", "1", "--warm-up", "0")
    assert (results["requests"], _query_count(model_server)) == (61, 61)
    assert results["answers_per_s"] == pytest.approx(61 / results["seconds"])
    assert [0 < one < 2 for one in results["tool"]["cores"]] == [True, True]
    model_server.delay_s = 0.05
    closed = ("--processes", "2", "--concurrency", "5", "--duration", "0.5", "--warm-up", "0")
    assert 0 < bench(*closed)["requests"] <= 5 * (0.5 / 0.05 + 1)


def test_processes_start_at_different_ids_and_times(tmp_path: Path) -> None:
    users = _ids(tmp_path / "many.txt", *(f"u{n}" for n in range(12)))

    def plans(*options: str) -> list[Plan]:
        return make_plans(cli.make_parser().parse_args(["bench", "--users", users, *options]))

    three = plans("--processes", "3", "--concurrency", "32")
    assert [plan.concurrency for plan in three] == [10, 11, 11]
    assert [plan.connections for plan in three] == [2, 3, 3]
    assert [plan.first_call for plan in three] == [0, 4, 8]
    assert [plan.first_call for plan in plans("--processes", "3", "--batch", "2")] == [0, 2, 4]
    paced = plans("--processes", "2", "--rate", "10")
    assert [(plan.rate, plan.delay_s) for plan in paced] == [(5, 0), (5, 0.1)]
    assert [plan.connections for plan in plans("--concurrency", "3")] == [3]
    assert [plan.connections for plan in plans("--connections", "20")] == [20]


def test_ids_are_used_in_a_cycle(recorder: Recorder, tmp_path: Path) -> None:
    users = _ids(tmp_path / "four.txt", "a", "b", "c", "d")
    bench = ["bench", "--address", recorder.address, "--users", users, "--warm-up", "0"]
    paced = ["--rate", "20", "--duration", "0.5", "--connections", "1"]
    assert cli.main([*bench, *paced]) == 0
    assert recorder.users == [*"abcdabcdab"]


@pytest.mark.parametrize("options", [[], ["--processes", "2"], ["--rate", "100"]])
def test_each_connection_is_a_tcp_connection(
    recorder: Recorder, users: Path, options: list[str]
) -> None:
    bench = ["bench", "--address", recorder.address, "--users", str(users), *options]
    assert cli.main([*bench, "--connections", "5", "--duration", "0.3", "--warm-up", "0"]) == 0
    assert len(recorder.peers) == 5


def test_answers_may_be_of_any_size(
    recorder: Recorder, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # More than gRPC's default limit of 4 MiB.
    recorder.answer = pb.RetrieveResponse(candidates=[pb.Candidate(item_id="i" * 5_000_000)])
    bench = ["bench", "--address", recorder.address, "--users", str(users), "--warm-up", "0"]
    assert cli.main([*bench, "--rate", "10", "--duration", "0.3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == {}


def test_text_output(service: Service, users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = ["bench", "--address", service.address, "--users", str(users), "--batch", "5"]
    assert cli.main([*bench, "--rate", "20", "--duration", "0.5", "--warm-up", "0"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    text_by_name = dict(lines)
    assert text_by_name.keys() == {
        *("load", "requests", "users", "latency", "candidates", "popularity", "versions"),
        *("errors", "this"),
    }
    assert text_by_name["load"] == "BatchRetrieve of 5, 20 a second, 0.5 s"
    assert text_by_name["requests"].endswith("a second, 10 OK")
    assert text_by_name["latency"].startswith("ms  p50 ")
    assert (text_by_name["candidates"], text_by_name["versions"]) == ("50.0 an answer", "7")
    assert text_by_name["errors"] == "none"


def test_text_says_when_the_load_generator_is_the_bottleneck() -> None:
    options = argparse.Namespace(
        address="", concurrency=1, rate=None, batch=0, users="-", processes=1
    )
    assert "--processes" in report.as_text(Tally(cores=[0.3, 0.95]), options)
    assert "--processes" in report.as_text(Tally(cores=[0.3], unsent=1), options)
    assert "--processes" not in report.as_text(Tally(cores=[0.89, 0.3]), options)


def test_unsent_requests_of_too_high_a_rate_are_unfinished(bench: Bench) -> None:
    options = ("--rate", "100000", "--duration", "0.5", "--warm-up", "0", "--timeout-s", "0.3")
    results = bench(*options)
    counted = results["requests"] + sum(one["count"] for one in results["errors"].values())
    assert results["unfinished"] > 10_000
    assert counted + results["unfinished"] == pytest.approx(50_000, abs=1)
    assert results["tool"]["limited"]


def test_progress_adds_the_counts_of_all_processes(capsys: pytest.CaptureFixture[str]) -> None:
    # Three numbers per process: measured seconds, OK answers, failed requests.
    processes._show([2.04, 3_000, 1, 2.0, 1_000, 1_000])
    processes._show([0.2, 10, 0, -0.1, 0, 0])
    shown = capsys.readouterr().err.split("\r\x1b[K")
    assert shown == ["", "2 s: 2,000 answers/s, 1,001 errors", "warming up"]


def test_progress_is_shown_on_a_terminal_only(
    service: Service,
    users: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = ["bench", "--address", service.address, "--users", str(users), "--rate", "20"]
    assert cli.main([*bench, "--duration", "0.2", "--warm-up", "0"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main([*bench, "--duration", "2", "--warm-up", "0.2"]) == 0
    shown = capsys.readouterr().err.split("\r\x1b[K")
    assert shown[1] == "warming up"
    assert re.fullmatch(r"[12] s: \d+ answers/s, 0 errors", shown[-2])
    assert shown[-1] == ""


def test_closed_loop_ends_in_time_without_answers(
    bench: Bench, model_server: FakeModelServer
) -> None:
    answer = threading.Event()

    def wait(_: grpc.ServicerContext) -> None:
        answer.wait(120)

    model_server.called = wait
    results = bench("--concurrency", "4", "--duration", "0.3", "--warm-up", "0")
    assert not answer.is_set()
    answer.set()
    assert (results["requests"], results["unfinished"], results["status"]) == (0, 4, 1)


@pytest.mark.parametrize("loop", [["--concurrency", "2"], ["--rate", "0.1"]])
def test_interrupt_ends_the_load_early_with_results(recorder: Recorder, loop: list[str]) -> None:
    arguments = [
        *(sys.executable, "-m", "query_service", "bench", "--address", recorder.address),
        *("--users", "-", "--warm-up", "0", "--duration", "600", "--json", *loop),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0
    ) as process:
        assert process.stdin is not None
        process.stdin.write("é1\nu2\n".encode())
        process.stdin.close()
        process.stdin = None
        # Without an answer the exit status would be 1.
        until(lambda: recorder.ended, 120, "a request is answered")
        time.sleep(0.5)
        # A terminal sends it to all processes of the command.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    results = json.loads(out)
    assert 0 < results["seconds"] < 300
    assert results["answers"] > 0
    assert results["requests_per_s"] == pytest.approx(results["requests"] / results["seconds"])


class _Exit:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def test_process_that_ends_unexpectedly_is_an_error() -> None:
    requests: Any = _Exit()
    plan = Plan("127.0.0.1:1", requests, 0, 1, 1, None, 0.0, 0.0, 1.0, 1.0)
    with pytest.raises(LoadTestError, match="ended unexpectedly"):
        processes.measure([plan], show_progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:1", "not listening"])
def test_connection_failure_names_the_address(
    address: str, users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = ["bench", "--address", address, "--users", str(users), "--timeout-s", "2"]
    # One process fails, and the others stop waiting for it.
    assert cli.main([*bench, "--processes", "2"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {address}: ")


@pytest.mark.parametrize("option", ["--users", "--items", "--exclude"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "no ids"), (b"\n  \n", "no ids"), (b"u1\n\xff\n", "utf-8")],
)
def test_unusable_id_file_is_an_error(
    option: str,
    content: bytes | None,
    message: str,
    users: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_bytes(content)
    ids = ["--users", str(users)] if option == "--exclude" else []
    assert cli.main(["bench", *ids, option, str(path)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert message in line


@pytest.mark.parametrize(
    "wrong",
    [
        ["--concurrency", "0"],
        ["--concurrency", "-1"],
        ["--concurrency", "many"],
        ["--duration", "0"],
        ["--duration", "nan"],
        ["--warm-up", "-1"],
        ["--warm-up", "inf"],
        ["-k", "0"],
        ["-k", "9999999999"],
        ["--batch", "-1"],
        ["--connections", "0"],
        ["--processes", "0"],
        ["--processes", "33"],
        ["--processes", "2", "--connections", "1"],
        ["--rate", "0"],
        ["--rate", "10", "--concurrency", "3"],
        ["--timeout-s", "0"],
        ["--timeout-s", "nan"],
        ["--items", "i.txt"],
    ],
)
def test_invalid_option_is_a_usage_error(
    wrong: list[str], users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["bench", "--users", str(users), *wrong])
    assert raised.value.code == 2
    assert wrong[0] in capsys.readouterr().err.splitlines()[-1]


def test_id_file_with_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    # Editors on Windows write such files. Spaces are part of an id.
    path.write_bytes("\ufeffu1\r\n\r\n é 2\r\n".encode())
    assert read_ids(str(path)) == ["u1", " é 2"]


def test_users_or_items_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ([], ["--items", "i.txt", "--exclude-seen"]):
        with pytest.raises(SystemExit):
            cli.main(["bench", *wrong])
        assert "--users" in capsys.readouterr().err.splitlines()[-1]


def test_other_commands_do_not_import_the_load_test() -> None:
    code = """
import sys
import query_service.cli.main
assert not {"multiprocessing", "query_service.load_test.load"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
