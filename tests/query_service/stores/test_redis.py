"""Seen items in a real Redis, which is also stopped and restarted."""

import asyncio
import logging
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from query_service.cli import main as cli
from query_service.errors import SeenStoreUnavailable
from query_service.stores import open_store
from query_service.stores.redis import KEY_PREFIX, TIMEOUT_S
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc
from tests.query_service.conftest import FakeModelServer, Service
from tests.query_service.redis_server import RedisServer, needs_redis
from tools.processes import ROOT
from tools.waiting import until

pytestmark = [needs_redis, pytest.mark.timeout(60)]

Code = grpc.StatusCode
SEEN = pb.RetrieveRequest(user_id="u1", max_candidates=2, exclude_seen=True)
PLAIN = pb.RetrieveRequest(user_id="u1", max_candidates=2)


def _ids(service: Service, request: pb.RetrieveRequest = SEEN) -> list[str]:
    return [candidate.item_id for candidate in service.stub.Retrieve(request, timeout=5).candidates]


def _code(service: Service, request: pb.RetrieveRequest = SEEN, timeout: float = 5) -> Code:
    code: Code = service.stub.Retrieve.future(request, timeout=timeout).code()
    return code


def _until_ok(service: Service, limit_s: float = 5) -> None:
    """Wait until the service is connected to Redis."""
    until(lambda: _code(service) == Code.OK, limit_s)


def _until_refused(stub: Any) -> None:
    """Wait until the service is connected and Redis refuses its password."""

    def refused() -> bool:
        with pytest.raises(grpc.RpcError) as raised:
            stub.Retrieve(SEEN, timeout=5)
        assert raised.value.code() == Code.UNAVAILABLE
        return "Redis rejected the user name or password" in str(raised.value.details())

    until(refused, 5)


def _with_store(url: str, use: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        store = open_store(url)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_items_that_another_program_wrote_are_excluded(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    service = serve(seen_store=redis_server.url)
    _until_ok(service)
    assert _ids(service) == ["i0", "i1"], "an unknown user has seen nothing"
    redis_server.sees("u1", "i0", "i2")
    assert _ids(service) == ["i1", "i3"]
    redis_server.sees("u1", "i1")
    assert _ids(service) == ["i3", "i4"]


def test_any_item_id_is_read_unchanged(redis_server: RedisServer) -> None:
    items = {"é".encode(), "日本".encode(), b"a b\r\n\0", *(b"%d" % n for n in range(5_000))}
    redis_server.sees("ü", *items)
    # Also if the URL asks redis-py for text.
    for options in ("", "?decode_responses=true"):
        url = redis_server.url + options
        assert _with_store(url, lambda store: store.seen("ü")) == items
        assert _with_store(url, lambda store: store.seen("u")) == frozenset()


def test_recorded_items_can_be_read_and_erased(redis_server: RedisServer) -> None:
    async def ask(store: Any) -> None:
        assert await store.record([("a", "1"), ("b", "1"), ("a", "é"), ("a", "1")]) == 3
        assert await store.record([("a", "1"), ("a", "2")]) == 1
        assert await store.seen("a") == {b"1", b"2", "é".encode()}
        assert [one[1:] for one in await store.forget("a")] == [(3, "")]
        assert [one[1:] for one in await store.forget("a")] == [(0, "")]
        assert (await store.seen("a"), await store.seen("b")) == (frozenset(), {b"1"})

    _with_store(redis_server.url, ask)
    with redis_server.client() as client:
        assert client.keys() == [b"shortlist:seen:b"]


def test_database_of_the_url_is_used(redis_server: RedisServer) -> None:
    url = redis_server.url[:-1] + "3"
    _with_store(url, lambda store: store.record([("u1", "i0")]))
    with redis_server.client(db=3) as client:
        assert client.smembers("shortlist:seen:u1") == {b"i0"}


class Load:
    """Sends requests with and without seen items from threads, and counts the statuses."""

    def __init__(self, service: Service) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[str, Counter[Code]] = {"seen": Counter(), "plain": Counter()}
        self._seconds: list[float] = []
        self.leaked = False
        self._stopped = threading.Event()
        kinds = [("seen", SEEN)] * 4 + [("plain", PLAIN)] * 2
        self._threads = [threading.Thread(target=self._ask, args=(service, *one)) for one in kinds]
        for one in self._threads:
            one.start()

    def _ask(self, service: Service, kind: str, request: pb.RetrieveRequest) -> None:
        while not self._stopped.wait(0.005):
            began = time.monotonic()
            call = service.stub.Retrieve.future(request, timeout=1)
            code = call.code()
            with self._lock:
                if kind == "seen" and code == Code.OK:
                    self.leaked |= "i0" in [
                        candidate.item_id for candidate in call.result().candidates
                    ]
                self._outcomes[kind][code] += 1
                if kind == "seen":
                    self._seconds.append(time.monotonic() - began)

    def take(self) -> tuple[set[Code], set[Code], float]:
        """Return the codes with and without exclude_seen, and the median seconds with it.

        Covers the time since the last call.
        """
        with self._lock:
            usual_s = statistics.median(self._seconds) if self._seconds else 0.0
            found = set(self._outcomes["seen"]), set(self._outcomes["plain"]), usual_s
            self._outcomes = {"seen": Counter(), "plain": Counter()}
            self._seconds = []
        return found

    def end(self) -> None:
        self._stopped.set()
        for one in self._threads:
            one.join()


@contextmanager
def _load(service: Service) -> Iterator[Load]:
    load = Load(service)
    try:
        yield load
    finally:
        load.end()


@pytest.mark.parametrize(
    ("stop", "restart"),
    [(RedisServer.kill, RedisServer.start), (RedisServer.pause, RedisServer.resume)],
    ids=["killed", "stopped"],
)
def test_unavailable_redis_under_load(
    serve: Callable[..., Service],
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    stop: Callable[[RedisServer], None],
    restart: Callable[[RedisServer], None],
) -> None:
    redis_server.sees("u1", "i0")
    service = serve(seen_store=redis_server.url)
    _until_ok(service)
    assert _ids(service) == ["i1", "i2"]
    caplog.set_level(logging.INFO)
    with _load(service) as load:
        time.sleep(0.3)
        assert load.take()[:2] == ({Code.OK}, {Code.OK})
        stop(redis_server)
        # Until the requests in flight have ended as well.
        until(lambda: load.take()[0] == {Code.UNAVAILABLE}, 3)
        # A thread may count a response only now that it received before Redis stopped.
        time.sleep(TIMEOUT_S)
        load.take()
        # Longer than a request may take, and than the interval between reconnects.
        time.sleep(1.5)
        with_seen, without, usual_s = load.take()
        assert (with_seen, without) == ({Code.UNAVAILABLE}, {Code.OK})
        assert usual_s < 0.1, "requests fail at once while Redis is known to be unavailable"
        restart(redis_server)
        _until_ok(service, 2)
        until(lambda: load.take()[:2] == ({Code.OK}, {Code.OK}), 2)
    assert not load.leaked
    assert _ids(service) == ["i1", "i2"], "items written before are still there"
    messages = [
        record.message for record in caplog.records if record.name.endswith("redis_pipeline")
    ]
    assert messages[-1] == "seen store: Redis is available again"
    assert len(messages) <= 4, "there must not be one message per request"


def test_slow_redis_does_not_exceed_the_deadline(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    service = serve(seen_store=redis_server.url)
    _until_ok(service)
    redis_server.pause()
    try:
        for timeout in (0.1, 5):
            began = time.monotonic()
            code = _code(service, timeout=timeout)
            assert code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
            assert time.monotonic() - began < TIMEOUT_S + 0.3
        assert code == Code.UNAVAILABLE
        assert _code(service, PLAIN) == Code.OK
    finally:
        redis_server.resume()


def test_reconnecting_uses_one_connection_at_a_time(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    service = serve(seen_store=redis_server.url)
    _until_ok(service)
    redis_server.pause()
    with _load(service) as load:
        until(lambda: load.take()[0] == {Code.UNAVAILABLE}, 3)
        time.sleep(2)
        assert load.take()[0] == {Code.UNAVAILABLE}
    redis_server.resume()
    _until_ok(service, 2)
    with redis_server.client() as client:
        # One connection for each attempt to reach it.
        assert client.info("stats")["total_connections_received"] < 20


def test_late_answer_goes_to_no_other_call(redis_server: RedisServer) -> None:
    users = [f"u{n}" for n in range(50)]
    for user in users:
        redis_server.sees(user, f"of-{user}")

    async def ask(store: Any) -> int:
        async def one(user: str, patience_s: float) -> int:
            try:
                async with asyncio.timeout(patience_s):
                    seen = await store.seen(user)
            except TimeoutError:
                return 1
            assert seen == {f"of-{user}".encode()}
            return 0

        impatient = 0
        for turn in range(40):
            patience_s = 0.0001 * (turn % 20)
            impatient += sum(await asyncio.gather(*(one(user, patience_s) for user in users)))
            assert sum(await asyncio.gather(*(one(user, 5) for user in users))) == 0
        return impatient

    assert _with_store(redis_server.url, ask) > 100


def test_store_that_starts_later_is_used(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    redis_server.kill()
    service = serve(seen_store=redis_server.url)
    assert _code(service) == Code.UNAVAILABLE
    assert _code(service, PLAIN) == Code.OK
    redis_server.start()
    _until_ok(service, 2)


def test_restart_of_an_idle_redis_fails_no_request(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    redis_server.sees("u1", "i0")
    service = serve(seen_store=redis_server.url)
    _until_ok(service)
    assert _ids(service) == ["i1", "i2"]
    redis_server.kill()
    redis_server.start()
    assert _ids(service) == ["i1", "i2"], "no request may fail"


def test_service_shuts_down_while_redis_is_paused(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    service = serve(seen_store=redis_server.url)
    _until_ok(service)
    redis_server.pause()
    call = service.stub.Retrieve.future(SEEN, timeout=5)
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < 3
    assert call.code() != Code.OK
    redis_server.resume()


def test_key_of_another_type_fails_only_its_user(
    serve: Callable[..., Service], redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.set(KEY_PREFIX + "u1", "text")
    service = serve(seen_store=redis_server.url)
    other = pb.RetrieveRequest(user_id="u2", max_candidates=1, exclude_seen=True)
    until(lambda: _code(service, other) == Code.OK, 5)
    with pytest.raises(grpc.RpcError) as raised:
        service.stub.Retrieve(SEEN, timeout=5)
    assert raised.value.code() == Code.UNAVAILABLE
    assert (
        raised.value.details()
        == "seen items cannot be read: Redis answered with the error WRONGTYPE"
    )
    assert _ids(service, other) == ["i0"], "other users are not affected"
    with pytest.raises(
        SeenStoreUnavailable, match=r"^seen items cannot be recorded: .* WRONGTYPE$"
    ):
        _with_store(redis_server.url, lambda store: store.record([("u1", "i1")]))


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with a password."""
    server = RedisServer(tmp_path, "--requirepass", "hunter2")
    yield server
    server.kill()


def test_passwords_are_used(
    serve: Callable[..., Service], locked: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    place = locked.url.removeprefix("redis://")
    _until_ok(serve(seen_store=f"redis://:hunter2@{place}"))
    _until_ok(serve(seen_store=f"redis://default:hunter2@{place}"))
    for wrong in ("", ":wrong-secret@", "somebody:wrong-secret@"):
        _until_refused(serve(seen_store=f"redis://{wrong}{place}").stub)
    assert "secret" not in caplog.text


def test_documented_permissions_are_enough(redis_server: RedisServer) -> None:
    page = (ROOT / "docs" / "seen-items.md").read_text(encoding="utf-8")
    paragraph = page.split("**Permissions**")[1].partition("\n- ")[0]
    permissions = re.findall(r"\+[a-z]+", paragraph)
    with redis_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "service", "on", ">pw", "~shortlist:seen:*", *permissions
        )

    async def ask(store: Any) -> None:
        assert await store.record([("a", "1")]) == 1
        assert await store.seen("a") == {b"1"}
        assert await store.seen("a", 1) == {b"1"}
        assert await store.seen_among("a", [b"1", b"2"]) == {b"1"}
        await store.forget("a")

    _with_store(f"redis://service:pw@127.0.0.1:{redis_server.port}/2", ask)
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "service", "-eval")
    with pytest.raises(SeenStoreUnavailable, match="the error NoPermissionError"):
        _with_store(
            f"redis://service:pw@127.0.0.1:{redis_server.port}/2", lambda store: store.seen("a")
        )


def test_password_is_never_printed(
    model_server: FakeModelServer, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    place = redis_server.url.removeprefix("redis://")
    url = f"redis://user:hunter2@{place}?client_name=hunter2"
    arguments = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    process = subprocess.Popen(
        [sys.executable, "-m", "query_service", *arguments, "--seen-store", url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    address = line.split(" ready on ")[1].split(": ")[0]
    with grpc.insecure_channel(address) as channel:
        _until_refused(retrieval_service_pb2_grpc.RetrievalServiceStub(channel))
    logged = ""
    while "Redis rejected the user name or password" not in logged:
        logged += process.stderr.readline()
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert line.endswith(f", seen store redis://***@{place}\n")
    assert "hunter2" not in line + logged + out + err
    assert cli.main(["seen", "show", "u", "--seen-store", url]) == 1
    for wrong in (
        "rediss:/user:hunter2@host",
        "redis://user:hunt/hunter2@host:1/0",
        "redis://user:hunter2@host:port/0",
        "redis://user:hunter2@host:1/name",
        "redis://user:hunter2@host:1/0?no_such_option=1",
        "redis://user:hunter2@host:1/0?socket_timeout=hunter2",
    ):
        assert cli.main(["serve", "--port", "0", "--seen-store", wrong]) == 1
    out, err = capsys.readouterr()
    assert err.count("error: --seen-store: ") == 6
    assert "hunter2" not in out + err


def test_redis_over_tls(serve: Callable[..., Service], tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    files = ("cert", "tls-cert-file"), ("key", "tls-key-file"), ("ca", "tls-ca-cert-file")
    options = [
        part for name, flag in files for part in (f"--{flag}", str(tmp_path / f"{name}.pem"))
    ]
    server = RedisServer(tmp_path, *options, "--tls-auth-clients", "no", tls=True)
    try:
        _until_ok(serve(seen_store=f"{server.url}?ssl_ca_certs={tmp_path / 'ca.pem'}"))
        assert _code(serve(seen_store=server.url)) == Code.UNAVAILABLE, (
            "its authority is not trusted"
        )
    finally:
        server.kill()
