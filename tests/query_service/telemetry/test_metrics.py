"""The service counts what happens, and Prometheus can read the metrics of all workers."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from query_service import VERSION
from query_service.telemetry.metrics import Metrics
from query_service.telemetry.registry import MetricRegistry, SharedSamples
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from tests.conftest import running
from tests.query_service.conftest import FakeModelServer, Service
from tests.query_service.telemetry.scraping import free_port, scrape
from tests.skips import applies_if
from tools.processes import ROOT
from tools.waiting import until


def _failure(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    code: grpc.StatusCode = raised.value.code()
    return code


@pytest.fixture
def port() -> int:
    return free_port()


def test_requests_answers_and_predicts_are_counted(
    serve: Callable[..., Service], seen_path: Path, port: int
) -> None:
    stub = serve(seen_store=f"sqlite:{seen_path}", metrics_port=port, cache_size=10).stub
    for _ in range(2):
        stub.Retrieve(pb.RetrieveRequest(user_id="u1", max_candidates=5))
    stub.Retrieve(pb.RetrieveRequest(user_id="u1", max_candidates=3, exclude_seen=True))
    assert _failure(lambda: stub.Retrieve(pb.RetrieveRequest(item_id="none"))).name == "NOT_FOUND"
    assert _failure(lambda: stub.Retrieve(pb.RetrieveRequest())).name == "INVALID_ARGUMENT"
    batch = [pb.RetrieveRequest(user_id="u2", recent_item_ids=["i1"]), pb.RetrieveRequest()]
    stub.BatchRetrieve(pb.BatchRetrieveRequest(requests=batch))

    found = scrape(port)
    requests = "shortlist_requests_total"
    assert found[f'{requests}{{method="Retrieve",status="OK"}}'] == 3
    assert found[f'{requests}{{method="Retrieve",status="NOT_FOUND"}}'] == 1
    assert found[f'{requests}{{method="Retrieve",status="INVALID_ARGUMENT"}}'] == 1
    assert found[f'{requests}{{method="BatchRetrieve",status="OK"}}'] == 1
    assert found['shortlist_request_duration_seconds_count{method="Retrieve"}'] == 5
    assert 0 < found['shortlist_request_duration_seconds_sum{method="Retrieve"}'] < 5
    assert found["shortlist_requests_in_flight"] == 0
    assert found['shortlist_batch_results_total{status="OK"}'] == 1
    assert found['shortlist_batch_results_total{status="INVALID_ARGUMENT"}'] == 1
    assert found['shortlist_answers_total{origin="model"}'] == 4
    assert found['shortlist_answer_candidates_bucket{le="1.0"}'] == 0
    assert found['shortlist_answer_candidates_bucket{le="10.0"}'] == 3
    assert found["shortlist_answer_candidates_sum"] == 5 + 5 + 3 + 50
    assert found["shortlist_excluded_items_sum"] == 3
    assert found["shortlist_refetches_total"] == 0
    assert found["shortlist_fallbacks_total"] == 0
    # The second request to u1 was answered by the cache.
    assert found['shortlist_cache_lookups_total{result="hit"}'] == 1
    assert found['shortlist_cache_lookups_total{result="miss"}'] == 4
    assert found['shortlist_predicts_total{status="OK"}'] == 4
    assert found['shortlist_predict_duration_seconds_count{signature="by_user"}'] == 2
    assert found['shortlist_predict_duration_seconds_count{signature="by_item"}'] == 1
    assert found['shortlist_predict_duration_seconds_count{signature="by_user_and_history"}'] == 1
    assert found["shortlist_predict_queries_sum"] == 4
    assert found["shortlist_queries_waiting"] == 0
    assert found["shortlist_seen_store_read_duration_seconds_count"] == 1
    assert found["shortlist_model_version"] == 7
    assert found["shortlist_serving"] == 1
    assert found["shortlist_workers"] == 1
    assert found["shortlist_process_resident_memory_bytes"] > 1e6
    version = ".".join(map(str, sys.version_info[:3]))
    assert found[f'shortlist_build_info{{python="{version}",version="{VERSION}"}}'] == 1


def test_refetches_popularity_and_failures_are_counted(
    serve: Callable[..., Service], model_server: FakeModelServer, port: int
) -> None:
    stub = serve(metrics_port=port).stub
    model_server.ranking = [f"i{n}" for n in range(500)]
    stub.Retrieve(
        pb.RetrieveRequest(
            user_id="u", max_candidates=2, exclude_item_ids=[f"i{n}" for n in range(200)]
        )
    )
    model_server.known = False
    stub.Retrieve(pb.RetrieveRequest(user_id="u"))
    # No seen store is configured.
    _failure(lambda: stub.Retrieve(pb.RetrieveRequest(user_id="u", exclude_seen=True)))
    model_server.error = (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    _failure(lambda: stub.Retrieve(pb.RetrieveRequest(user_id="u")))
    until(lambda: scrape(port)["shortlist_serving"] == 0)
    found = scrape(port)
    assert found["shortlist_refetches_total"] == 1
    assert found["shortlist_excluded_items_sum"] == 200
    assert found['shortlist_answers_total{origin="popularity"}'] == 1
    assert found['shortlist_seen_store_errors_total{reason="unavailable"}'] == 1
    assert found['shortlist_predicts_total{status="RESOURCE_EXHAUSTED"}'] == 1
    assert found['shortlist_requests_total{method="Retrieve",status="RESOURCE_EXHAUSTED"}'] == 1
    # The version that was known last.
    assert found["shortlist_model_version"] == 7


def test_fallbacks_are_counted(
    serve: Callable[..., Service], model_server: FakeModelServer, port: int
) -> None:
    # A model that does not know a user returns the popularity ranking, which is the fallback.
    model_server.known = False
    stub = serve(metrics_port=port, fallback="popular").stub
    until(lambda: scrape(port)['shortlist_predicts_total{status="OK"}'] == 1)
    model_server.error = (grpc.StatusCode.FAILED_PRECONDITION, "unloaded")
    assert stub.Retrieve(pb.RetrieveRequest(user_id="u")).origin == pb.ORIGIN_POPULARITY
    found = scrape(port)
    assert found["shortlist_fallbacks_total"] == 1
    assert found['shortlist_answers_total{origin="popularity"}'] == 1
    assert found["shortlist_refetches_total"] == 0


@pytest.mark.parametrize("runtime", ["core", "aio"])
def test_refused_requests_are_counted(
    serve: Callable[..., Service], model_server: FakeModelServer, port: int, runtime: str
) -> None:
    stub = serve(metrics_port=port, max_concurrent_requests=1, runtime=runtime).stub
    model_server.delay_s = 0.5
    first = stub.Retrieve.future(pb.RetrieveRequest(user_id="u"))
    until(lambda: scrape(port)["shortlist_requests_in_flight"] == 1)
    refused = _failure(lambda: stub.Retrieve(pb.RetrieveRequest(user_id="u2")))
    assert refused.name == "RESOURCE_EXHAUSTED"
    found = scrape(port)
    assert found['shortlist_requests_total{method="Retrieve",status="RESOURCE_EXHAUSTED"}'] == 1
    first.result()


def test_in_flight_cancelled_and_late_requests_are_counted(
    serve: Callable[..., Service], model_server: FakeModelServer, port: int
) -> None:
    stub = serve(metrics_port=port).stub
    model_server.delay_s = 0.4
    calls = [
        stub.Retrieve.future(pb.RetrieveRequest(user_id=f"u{n}"), timeout=10) for n in range(3)
    ]
    until(lambda: scrape(port)["shortlist_requests_in_flight"] == 3)
    calls[2].cancel()
    until(lambda: scrape(port)["shortlist_requests_in_flight"] == 2)
    assert (
        _failure(lambda: stub.Retrieve(pb.RetrieveRequest(user_id="u"), timeout=0.1)).name
        == "DEADLINE_EXCEEDED"
    )
    for call in calls[:2]:
        call.result()
    until(lambda: scrape(port)["shortlist_requests_in_flight"] == 0)
    found = scrape(port)
    requests = "shortlist_requests_total"
    cancelled = found[f'{requests}{{method="Retrieve",status="CANCELLED"}}']
    late = found[f'{requests}{{method="Retrieve",status="DEADLINE_EXCEEDED"}}']
    # A caller cancels at its deadline, which may reach the service before its own timer fires.
    assert (cancelled, late) in {(1, 1), (2, 0)}
    assert found["shortlist_queries_waiting"] == 0


@contextlib.contextmanager
def _workers(model_server: FakeModelServer, port: int) -> Iterator[tuple[str, psutil.Process]]:
    upstream = ("--model-server", f"127.0.0.1:{model_server.port}", "--timeout-s", "5")
    serve = ("serve", "--port", "0", "--workers", "2", "--metrics-port", str(port), *upstream)
    with running("query_service", *serve) as (address, process):
        yield address, psutil.Process(process.pid)


def _ask(address: str, user: str = "u") -> "grpc.Future[pb.RetrieveResponse]":
    """Send a request over a new connection, which any worker may accept."""
    channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    call: grpc.Future[pb.RetrieveResponse] = pb_grpc.RetrievalServiceStub(channel).Retrieve.future(
        pb.RetrieveRequest(user_id=user), timeout=10
    )
    call.add_done_callback(lambda _: channel.close())
    return call


_OK = 'shortlist_requests_total{method="Retrieve",status="OK"}'


@applies_if(sys.platform == "linux", "Linux")
def test_every_worker_reports_all_workers_even_killed_ones(
    model_server: FakeModelServer, port: int
) -> None:
    with _workers(model_server, port) as (address, parent):
        for _ in range(40):
            _ask(address).result()
        # Each scrape is a new connection, which either worker may accept.
        assert [scrape(port)[_OK] for _ in range(10)] == [40] * 10
        assert scrape(port)["shortlist_workers"] == 2
        model_server.delay_s = 3.0
        in_flight = [_ask(address, f"u{n}") for n in range(8)]
        until(lambda: scrape(port)["shortlist_requests_in_flight"] == 8)
        for worker in parent.children():
            worker.kill()
        for call in in_flight:
            with pytest.raises(grpc.RpcError):
                call.result()

        def both_are_replaced() -> bool:
            with contextlib.suppress(OSError):
                found = scrape(port)
                return (
                    found["shortlist_worker_starts_total"] == 4 and found["shortlist_workers"] == 2
                )
            return False

        until(both_are_replaced)
        found = scrape(port)
        # Requests of killed workers are no longer in flight.
        assert found["shortlist_requests_in_flight"] == 0
        assert found["shortlist_queries_waiting"] == 0
        assert found[_OK] == 40
        model_server.delay_s = 0.0
        _ask(address).result()
        assert scrape(port)[_OK] == 41


def test_gauges_of_an_ended_worker_do_not_count() -> None:
    samples = SharedSamples(2)
    workers = [Metrics(samples, worker) for worker in range(2)]
    for metrics in workers:
        metrics.registry.mark_alive()
        metrics.in_flight.add(3)
        metrics.worker_starts.add(5)
    registry = workers[0].registry

    def total(name: str, **labels: str) -> float:
        [series] = [each for each in registry.series if (each.name, each.labels) == (name, labels)]
        return registry.totals(series)[0]

    assert total("shortlist_requests_in_flight") == 6
    samples.mark_ended(1)
    assert total("shortlist_requests_in_flight") == 3
    assert total("shortlist_worker_starts_total") == 10
    # Its replacement uses the same block.
    Metrics(samples, 1).registry.mark_alive()
    assert total("shortlist_requests_in_flight") == 3
    assert total("shortlist_worker_starts_total") == 10


def test_too_many_metrics_are_an_error() -> None:
    registry = MetricRegistry(SharedSamples(), 0)
    bounds = tuple(map(float, range(2_000)))
    for number in ("1", "2"):
        registry.histogram("shortlist_large", "A large histogram.", bounds, number=number)
    with pytest.raises(ValueError, match="more than 4096 samples"):
        registry.histogram("shortlist_large", "A large histogram.", bounds, number="3")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_taken_metrics_port_fails_at_startup(model_server: FakeModelServer, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "query_service", "serve", "--port", "0"),
                *("--model-server", f"127.0.0.1:{model_server.port}"),
                *("--metrics-port", str(port), "--workers", workers),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert f"error: cannot listen on 127.0.0.1:{port}: " in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_port_is_free_while_the_last_request_ends(
    model_server: FakeModelServer, port: int, workers: str
) -> None:
    serve = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    more = ("--metrics-port", str(port), "--workers", workers, "--timeout-s", "5")
    with (
        running("query_service", *serve, *more) as (address, process),
        grpc.insecure_channel(address) as channel,
    ):
        model_server.delay_s = 1.5
        stub = pb_grpc.RetrievalServiceStub(channel)
        call = stub.Retrieve.future(pb.RetrieveRequest(user_id="u1"), timeout=10)
        until(lambda: bool(model_server.signatures))
        process.terminate()
        until(lambda: _is_free(port))
        assert not call.done()
        assert call.result().model_version == 7


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen()
        return True
    return False


def test_without_a_metrics_port_only_the_service_listens(model_server: FakeModelServer) -> None:
    arguments = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    with running("query_service", *arguments) as (address, process):
        found = psutil.Process(process.pid).net_connections("tcp")
        listening = {
            connection.laddr.port for connection in found if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {int(address.rpartition(":")[2])}


def test_idle_connections_do_not_block_scrapes(serve: Callable[..., Service], port: int) -> None:
    service = serve(metrics_port=port)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert scrape(port)["shortlist_serving"] == 1
        service.stop()
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_version_is_that_of_pyproject() -> None:
    found = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    assert found[1] == VERSION


def test_only_one_module_imports_each_library() -> None:
    for library, module in (("prometheus_client", "exporter.py"), ("opentelemetry", "spans.py")):
        importing = {
            path.name
            for path in (ROOT / "query_service").rglob("*.py")
            if re.search(rf"^\s*(from|import) {library}", path.read_text(), re.MULTILINE)
        }
        assert importing == {module}, os.linesep.join(importing)
