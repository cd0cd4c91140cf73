"""retrieval.v1.InteractionService: recorded items are excluded from later answers."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from query_service.client import RetrievalClient
from query_service.stores import open_store
from retrieval.v1 import interaction_service_pb2 as pb
from retrieval.v1 import interaction_service_pb2_grpc
from tests.conftest import running
from tests.query_service.conftest import FakeModelServer, Service, write_seen
from tests.query_service.redis_server import RedisServer, needs_redis
from tests.skips import applies_if
from tools.processes import ROOT

Code = grpc.StatusCode


def _request(*pairs: tuple[str, str]) -> pb.RecordInteractionsRequest:
    return pb.RecordInteractionsRequest(
        interactions=[pb.Interaction(user_id=user, item_id=item) for user, item in pairs]
    )


def _failure(service: Service, request: pb.RecordInteractionsRequest) -> Any:
    stub = interaction_service_pb2_grpc.InteractionServiceStub(service.channel)
    with pytest.raises(grpc.RpcError) as raised:
        stub.RecordInteractions(request, timeout=10)
    return raised.value


def _best(client: RetrievalClient, user: str, k: int = 2) -> list[str]:
    return [
        candidate.item_id for candidate in client.for_user(user, k, exclude_seen=True).candidates
    ]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, seen_path: Path) -> Iterator[str]:
    """A store in which ``u1`` has seen i0, i2 and i4."""
    if request.param == "sqlite":
        yield f"sqlite:{seen_path}"
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.sees("u1", "i0", "i2", "i4")
    yield server.url


def test_recorded_items_are_excluded_from_the_next_answer(
    serve: Callable[..., Service], store: str
) -> None:
    service = serve(seen_store=store)
    with RetrievalClient(service.address) as client:
        assert _best(client, "u1") == ["i1", "i3"]
        assert client.record([("u1", "i1"), ("new", "i0"), ("u1", "i1")]) == 2
        assert _best(client, "u1") == ["i3", "i5"]
        assert _best(client, "new") == ["i1", "i2"]
        assert client.record([("u1", "i1"), ("u1", "i3")]) == 1, (
            "recording an item again must not fail"
        )
        assert _best(client, "u1") == ["i5", "i6"]
    with RetrievalClient(serve(seen_store=store).address) as client:
        assert _best(client, "u1") == ["i5", "i6"], (
            "another server with the same store must exclude them"
        )


def test_concurrent_users_see_their_recorded_items_at_once(
    serve: Callable[..., Service], store: str
) -> None:
    service = serve(seen_store=store)

    def one(user: str) -> None:
        with RetrievalClient(service.address) as client:
            for n in range(20):
                assert client.record([(user, f"i{n}")]) == 1
                assert _best(client, user, 1) == [f"i{n + 1}"]

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, [f"someone-{n}" for n in range(8)]))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (_request(), "interactions"),
        (_request(*[("u", "i")] * 1_001), "interactions"),
        (_request(("u1", "i7"), ("", "i")), "interactions[1].user_id"),
        (_request(("u1", "i7"), ("u", "i"), ("u", "")), "interactions[2].item_id"),
        (_request(("u1", "i7"), ("u", "é" * 129)), "interactions[1].item_id"),
        (_request(("u1", "i7"), ("é" * 129, "i")), "interactions[1].user_id"),
    ],
)
def test_invalid_field_is_named_and_nothing_is_recorded(
    service: Service, seen_path: Path, request_: pb.RecordInteractionsRequest, field: str
) -> None:
    error = _failure(service, request_)
    assert error.code() == Code.INVALID_ARGUMENT
    [detail] = rpc_status.from_call(error).details
    bad = error_details_pb2.BadRequest()
    assert detail.Unpack(bad)
    assert bad.field_violations[0].field == field
    assert not seen_path.with_name("seen.sqlite-recorded").exists(), "nothing may be recorded"


def test_1_000_interactions_are_recorded_in_one_call(service: Service) -> None:
    pairs = [("u1", "é" * 128), ("é" * 128, "i0"), *((f"u{n}", "i0") for n in range(998))]
    with RetrievalClient(service.address) as client:
        assert client.record(pairs) == 1_000
        assert _best(client, "é" * 128, 1) == ["i1"]


def test_recording_without_a_usable_store_is_an_error(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    error = _failure(serve(), _request(("u", "i")))
    assert (error.code(), error.details()) == (
        Code.FAILED_PRECONDITION,
        "no seen store is configured; set --seen-store or SHORTLIST_SEEN_STORE",
    )
    service = serve(seen_store=f"sqlite:{tmp_path / 'no' / 'such'}")
    error = _failure(service, _request(("u", "i")))
    assert error.code() == Code.UNAVAILABLE
    assert "seen items cannot be recorded: " in error.details()


@needs_redis
def test_recording_fails_while_redis_is_unavailable(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    service = serve(seen_store=redis_server.url)
    redis_server.kill()
    assert _failure(service, _request(("u", "i"))).code() == Code.UNAVAILABLE
    redis_server.start()


def test_reflection_describes_the_service(service: Service) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    request = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="retrieval.v1.InteractionService"
    )
    [answer] = stub.ServerReflectionInfo(iter([request]))
    assert answer.file_descriptor_response.file_descriptor_proto


def test_malformed_message_is_an_invalid_argument(service: Service) -> None:
    raw: Any = service.channel.unary_unary("/retrieval.v1.InteractionService/RecordInteractions")
    assert raw.future(b"\xff\xff", timeout=5).code() == Code.INVALID_ARGUMENT


def test_acknowledged_interactions_survive_a_kill(
    model_server: FakeModelServer, store: str
) -> None:
    model_server.ranking = [f"i{n}" for n in range(5_000)]
    arguments = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    acknowledged: list[str] = []
    with running("query_service", *arguments, "--seen-store", store) as (address, process):

        def record() -> None:
            with RetrievalClient(address) as client:
                for n in range(5_000):
                    try:
                        client.record([("u2", f"i{n}")])
                    except grpc.RpcError:
                        return
                    acknowledged.append(f"i{n}")

        recording = threading.Thread(target=record)
        recording.start()
        while len(acknowledged) < 50:
            threading.Event().wait(0.01)
        process.kill()
        recording.join()
    assert 50 <= len(acknowledged) < 5_000
    with (
        running("query_service", *arguments, "--seen-store", store) as (address, _),
        RetrievalClient(address) as client,
    ):
        [next_one] = _best(client, "u2", 1)
    # The last interaction may be recorded without having been acknowledged.
    assert int(next_one[1:]) in (len(acknowledged), len(acknowledged) + 1)


def test_workers_and_commands_record_concurrently(
    model_server: FakeModelServer, seen_path: Path
) -> None:
    store = f"sqlite:{seen_path}"
    arguments = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    more = ("--workers", "3", "--seen-store", store, "--timeout-s", "5")
    with running("query_service", *arguments, *more) as (address, _):

        def record(client_number: int) -> int:
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(address, options) as channel:
                stub = interaction_service_pb2_grpc.InteractionServiceStub(channel)
                return sum(
                    int(stub.RecordInteractions(_request(("u3", f"{n}"))).new_interactions)
                    for n in range(client_number, client_number + 30)
                )

        # The first calls create the file concurrently.
        with futures.ThreadPoolExecutor(8) as pool:
            recorded = pool.map(record, range(0, 240, 30))
            commands = [
                subprocess.Popen(
                    [sys.executable, "-m", "query_service", "seen", "add", "u3", f"by-{n}"],
                    env={**os.environ, "SHORTLIST_SEEN_STORE": store},
                    cwd=ROOT,
                )
                for n in range(3)
            ]
            assert sum(recorded) == 240
            assert [one.wait(30) for one in commands] == [0, 0, 0]
    connection = sqlite3.connect(f"{seen_path}-recorded")
    [count] = connection.execute("SELECT count(*) FROM seen WHERE user_id = 'u3'").fetchone()
    assert count == 243
    connection.close()
    left = {one.name for one in seen_path.parent.iterdir()}
    assert left == {"seen.sqlite", "seen.sqlite-recorded"}, "no temporary file may be left"


def test_new_seen_file_keeps_recorded_interactions(
    serve: Callable[..., Service], seen_path: Path
) -> None:
    service = serve(seen_store=f"sqlite:{seen_path}")
    with RetrievalClient(service.address) as client:
        client.record([("u1", "i1")])
        write_seen(seen_path, {"u1": ["i0"]})
        assert _best(client, "u1") == ["i2", "i3"]
        seen_path.with_name("seen.sqlite-recorded").unlink()
        assert _best(client, "u1") == ["i1", "i2"]


def test_recorded_file_can_be_elsewhere(
    serve: Callable[..., Service], seen_path: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "recorded" / "here.sqlite"
    elsewhere.parent.mkdir()
    service = serve(seen_store=f"sqlite:{seen_path}?recorded={elsewhere}")
    with RetrievalClient(service.address) as client:
        client.record([("u1", "i1")])
        assert _best(client, "u1") == ["i3", "i5"]
    assert elsewhere.exists()
    assert not seen_path.with_name("seen.sqlite-recorded").exists()


@applies_if(os.geteuid() != 0, "a user whom file permissions bind (not root)")
def test_read_only_directory_fails_recording_only(
    serve: Callable[..., Service], seen_path: Path
) -> None:
    seen_path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        service = serve(seen_store=f"sqlite:{seen_path}")
        assert _failure(service, _request(("u", "i"))).code() == Code.UNAVAILABLE
        with RetrievalClient(service.address) as client:
            assert _best(client, "u1") == ["i1", "i3"]
    finally:
        seen_path.parent.chmod(stat.S_IRWXU)


def test_damaged_recorded_file_fails_reads_and_recording(
    serve: Callable[..., Service], seen_path: Path
) -> None:
    service = serve(seen_store=f"sqlite:{seen_path}")
    seen_path.with_name("seen.sqlite-recorded").write_bytes(b"not a database" * 100)
    with RetrievalClient(service.address) as client:
        # Seen items must not be read from the other file alone.
        for call in (lambda: _best(client, "u1"), lambda: client.record([("u1", "i1")])):
            with pytest.raises(grpc.RpcError) as raised:
                call()
            assert raised.value.code() == Code.UNAVAILABLE


@pytest.mark.parametrize(
    "name",
    ["sqlite:", "sqlite:?recorded=x", "sqlite:x?recorded=", "sqlite:x?other=y", "", "mysql:"],
)
def test_invalid_store_name_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="use sqlite:PATH"):
        open_store(name)
