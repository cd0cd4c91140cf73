"""Tokens and their limits, on real sockets; and where the service refuses to listen."""

import asyncio
import contextlib
import json
import logging
import queue
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from query_service import server
from query_service.cli import main as cli
from query_service.client import RetrievalClient
from query_service.settings import Settings
from retrieval.v1 import interaction_service_pb2, interaction_service_pb2_grpc
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from rpc import exposure, tokens
from rpc.errors import RateLimited, StartError, Unauthenticated, UnusableFile
from rpc.guard import INTERVAL_S, Guard
from rpc.rate_limit import RateLimit
from tests.conftest import running
from tests.query_service.conftest import TRANSPORTS, FakeModelServer, Service
from tools.waiting import until

Serve = Callable[..., Service]

_TOKEN, _OTHER, _NEW = "a-token-of-web", "a-token-of-batch", "the-new-token-of-web"
_UNAUTHENTICATED, _EXHAUSTED = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


def _table(name: str, token: str, rate: float | None = None) -> str:
    limit = f"requests_per_s = {rate}\n" if rate else ""
    return f'[{name}]\ntoken_sha256 = "{tokens.digest(token).hex()}"\n{limit}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(_table("web", _TOKEN) + _table("batch", _OTHER))
    return path


@pytest.fixture(params=TRANSPORTS)
def guarded(request: pytest.FixtureRequest, serve: Serve, file: Path, seen_path: Path) -> Service:
    return serve(transport=request.param, tokens=str(file), seen_store=f"sqlite:{seen_path}")


def _calls(service: Service) -> dict[str, Callable[..., Any]]:
    """Every method that needs a token."""
    one = pb.RetrieveRequest(user_id="u1", max_candidates=3)
    reflecting = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    interactions = interaction_service_pb2_grpc.InteractionServiceStub(service.channel)
    pairs = interaction_service_pb2.RecordInteractionsRequest()
    pairs.interactions.add(user_id="u1", item_id="i9")
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    return {
        "Retrieve": lambda **more: service.stub.Retrieve(one, timeout=5, **more),
        "BatchRetrieve": lambda **more: service.stub.BatchRetrieve(
            pb.BatchRetrieveRequest(requests=[one]), timeout=5, **more
        ),
        "RecordInteractions": lambda **more: interactions.RecordInteractions(
            pairs, timeout=5, **more
        ),
        "reflection": lambda **more: list(
            reflecting.ServerReflectionInfo(iter([question]), timeout=5, **more)
        ),
    }


def _ask(service: Service, token: str) -> int:
    with RetrievalClient(service.address, token=token) as client:
        return client.for_user("u1").model_version


def test_the_client_shows_its_token(guarded: Service) -> None:
    with RetrievalClient(guarded.address, token=_TOKEN) as client:
        assert client.record([("u1", "i9")]) == 1
        assert client.for_item("i1", 5, viewer_id="u1").model_version == 7


def _refusal(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    "method", ["Retrieve", "BatchRetrieve", "RecordInteractions", "reflection"]
)
def test_a_token_is_needed(guarded: Service, method: str) -> None:
    call = _calls(guarded)[method]
    for good in (f"Bearer {_TOKEN}", f"bearer {_OTHER}"):
        assert call(metadata=[("authorization", good)])
    wrong = ["", "Bearer", "Bearer ", f"Basic {_TOKEN}", _TOKEN, "Bearer nothing"]
    wrong += [f"Bearer {_TOKEN}x", f"Bearer {tokens.digest(_TOKEN).hex()}"]
    shown = [[], *([("authorization", one)] for one in wrong), [("token", _TOKEN)]]
    refusals = [_refusal(lambda one=one: call(metadata=one)) for one in shown]
    assert {one.code() for one in refusals} == {_UNAUTHENTICATED}
    # The same for all: nothing is said of what is wrong.
    assert len({one.details() for one in refusals}) == 1


def test_each_message_of_a_reflection_stream_needs_a_token(guarded: Service, file: Path) -> None:
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    more: queue.Queue[Any] = queue.Queue()
    reflecting = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    ask: Any = reflecting.ServerReflectionInfo
    answers = ask(iter(more.get, None), timeout=20, metadata=_header(_TOKEN))
    for _ in range(3):
        more.put(question)
        assert next(answers).list_services_response.service
    file.write_text(_table("batch", _OTHER))
    _until(guarded, _TOKEN, _UNAUTHENTICATED)
    more.put(question)
    assert _refusal(lambda: next(answers)).code() is _UNAUTHENTICATED
    more.put(None)


def test_each_message_of_a_reflection_stream_counts(guarded: Service, file: Path) -> None:
    file.write_text(_table("web", _TOKEN, 5) + _table("batch", _NEW))
    _until(guarded, _NEW, grpc.StatusCode.OK)
    questions = [reflection_pb2.ServerReflectionRequest(list_services="")] * 100
    reflecting = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    ask: Any = reflecting.ServerReflectionInfo
    answers = ask(iter(questions), timeout=20, metadata=_header(_TOKEN))
    assert _refusal(lambda: list(answers)).code() is _EXHAUSTED


def test_health_is_open(guarded: Service) -> None:
    assert guarded.health() == 1


def test_bytes_that_are_no_message_are_not_even_read(guarded: Service) -> None:
    raw = guarded.channel.unary_unary("/retrieval.v1.RetrievalService/Retrieve")
    assert _refusal(lambda: raw(b"\xff", timeout=5)).code() is _UNAUTHENTICATED
    known = [("authorization", f"Bearer {_TOKEN}")]
    error = _refusal(lambda: raw(b"\xff", timeout=5, metadata=known))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def _until(service: Service, token: str, code: grpc.StatusCode) -> float:
    """Ask until that is the status; the seconds that it took."""
    began = time.monotonic()
    while _code(service, token) is not code:
        assert time.monotonic() < began + 10
        time.sleep(0.02)
    return time.monotonic() - began


def _code(service: Service, token: str) -> grpc.StatusCode:
    try:
        _ask(service, token)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_token_is_changed_for_another(guarded: Service, file: Path) -> None:
    assert _ask(guarded, _TOKEN) == 7
    file.write_text(_table("web", _TOKEN) + _table("web-2", _NEW) + _table("batch", _OTHER))
    _until(guarded, _NEW, grpc.StatusCode.OK)
    assert _ask(guarded, _TOKEN) == 7
    file.write_text(_table("web-2", _NEW) + _table("batch", _OTHER))
    assert _until(guarded, _TOKEN, _UNAUTHENTICATED) < 2
    assert _ask(guarded, _NEW) == _ask(guarded, _OTHER) == 7


def test_a_broken_file_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    guard = Guard(str(file))
    for broken in (b"[web", b"", b"\xff", b"x = 1", None):
        file.unlink() if broken is None else file.write_bytes(broken)
        caplog.clear()
        for _ in range(3):
            asyncio.run(guard.reload())
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert str(file) in record.getMessage()
        guard.admit(_header(_TOKEN))
    file.write_text(_table("web", _NEW))
    asyncio.run(guard.reload())
    guard.admit(_header(_NEW))
    with pytest.raises(Unauthenticated):
        guard.admit(_header(_TOKEN))


def _header(token: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "x"), ("authorization", f"Bearer {token}")]


def test_the_log_has_counts_but_neither_tokens_nor_ids(
    guarded: Service, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user, wrong = "a-user-with-a-name", "a-wrong-token"
    request = pb.RetrieveRequest(user_id=user)
    for token in (wrong, wrong, _TOKEN, wrong):
        with contextlib.suppress(grpc.RpcError):
            guarded.stub.Retrieve(request, metadata=_header(token), timeout=5)
    file.write_text(_table("web", _NEW))
    _until(guarded, _NEW, grpc.StatusCode.OK)
    end_s = time.monotonic() + 10
    counts: list[str] = []
    while sum(map(int, counts)) < 3:
        assert time.monotonic() < end_s
        time.sleep(0.02)
        counts = re.findall(r"(\d+) calls without a valid token", caplog.text)
    assert "tokens are now those of web" in caplog.text
    for secret in (user, wrong, _TOKEN, _NEW, tokens.digest(_TOKEN).hex()):
        assert secret not in caplog.text


def test_refusals_are_logged_once_a_second(guarded: Service, caplog: Any) -> None:
    began = time.monotonic()
    while time.monotonic() < began + 2.2 * INTERVAL_S:
        _refusal(lambda: _ask(guarded, "nothing"))
    lines = [one for one in caplog.records if "without a valid token" in one.getMessage()]
    assert 1 <= len(lines) <= 3


def test_a_limit(guarded: Service, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_text(_table("web", _TOKEN, 5) + _table("batch", _OTHER))
    _until(guarded, _OTHER, grpc.StatusCode.OK)
    end_s = time.monotonic() + 10
    error = None
    with RetrievalClient(guarded.address, token=_TOKEN) as client:
        while error is None:
            assert time.monotonic() < end_s
            try:
                client.for_user("u1")
            except grpc.RpcError as raised:
                error = raised
        assert error.code() is _EXHAUSTED  # type: ignore[unreachable]
        assert error.details() == "web is limited to 5 requests per second"
        wait_s = _retry_after_s(error)
        assert 0 < wait_s <= 0.2
        # Others have limits of their own, or none.
        assert _ask(guarded, _OTHER) == 7
        time.sleep(wait_s)
        assert client.for_user("u1").model_version == 7
    # The log says it once a second, and not of each request.
    until(lambda: "1 calls of web were refused: its limit is 5 requests per second" in caplog.text)
    assert "request failed" not in caplog.text


def _retry_after_s(error: Any) -> float:
    status = rpc_status.from_call(error)
    assert status is not None
    (detail,) = status.details
    retry = error_details_pb2.RetryInfo()
    assert detail.Unpack(retry)
    return float(retry.retry_delay.ToNanoseconds() / 1e9)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_batch_counts_as_many_as_it_holds(serve: Serve, file: Path, transport: str) -> None:
    file.write_text(_table("web", _TOKEN, 0.5))
    service = serve(transport=transport, tokens=str(file))
    one = pb.RetrieveRequest(user_id="u1")
    batch = pb.BatchRetrieveRequest(requests=[one] * 50)
    results = service.stub.BatchRetrieve(batch, timeout=5, metadata=_header(_TOKEN)).results
    assert [result.response.model_version for result in results] == [7] * 50
    call: Any = service.stub.Retrieve
    error = _refusal(lambda: call(one, timeout=5, metadata=_header(_TOKEN)))
    assert error.code() is _EXHAUSTED
    # 50 at one in two seconds.
    assert 90 < _retry_after_s(error) <= 100


def test_an_empty_batch_counts_too(serve: Serve, file: Path) -> None:
    file.write_text(_table("web", _TOKEN, 0.5))
    call: Any = serve(tokens=str(file)).stub.BatchRetrieve
    empty = pb.BatchRetrieveRequest()
    codes = {
        _refusal(lambda: call(empty, timeout=5, metadata=_header(_TOKEN))).code() for _ in range(9)
    }
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT, _EXHAUSTED}


def test_spellings_of_a_header_are_not_kept_for_ever(file: Path) -> None:
    guard = Guard(str(file))
    guard.admit(_header(_TOKEN))
    tracemalloc.start()
    for number in range(3000):
        guard.admit([("authorization", f"Bearer{' ' * (number + 1)}{_TOKEN}")])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000


def test_workers_share_a_limit(file: Path) -> None:
    file.write_text(_table("web", _TOKEN, 8))
    guard = Guard(str(file), workers=4)
    guard.admit(_header(_TOKEN))
    guard.admit(_header(_TOKEN))
    with pytest.raises(RateLimited, match="web is limited to 8 requests per second"):
        guard.admit(_header(_TOKEN))


def test_a_limit_is_not_filled_again_by_a_new_file(file: Path) -> None:
    file.write_text(_table("web", _TOKEN, 0.01))
    guard = Guard(str(file))
    guard.admit(_header(_TOKEN))
    file.write_text(_table("web", _TOKEN, 0.01) + _table("batch", _OTHER))
    asyncio.run(guard.reload())
    guard.admit(_header(_OTHER))
    with pytest.raises(RateLimited):
        guard.admit(_header(_TOKEN))


def test_a_bucket() -> None:
    now = 100.0
    limit = RateLimit(10, now=lambda: now)
    assert [limit.take() for _ in range(10)] == [0] * 10
    assert limit.take() == pytest.approx(0.1)
    now += 0.05
    assert limit.take() == pytest.approx(0.05)
    now += 0.06
    assert limit.take() == 0
    # It holds one second's requests, however long the pause.
    now += 60
    assert [limit.take() for _ in range(11)].count(0) == 10
    limit.charge(20)
    assert limit.take() == pytest.approx(2.1)
    now += 2.2
    assert limit.take() == 0


def test_several_workers_look_at_the_file(model_server: FakeModelServer, file: Path) -> None:
    to = f"127.0.0.1:{model_server.port}"
    arguments = ("--port", "0", "--workers", "2", "--model-server", to, "--tokens", str(file))
    with running("query_service", "serve", *arguments) as (address, _), contextlib.ExitStack() as s:
        local = [("grpc.use_local_subchannel_pool", 1)]
        # 2 ** -15: all of them to one worker.
        channels = [s.enter_context(grpc.insecure_channel(address, local)) for _ in range(16)]
        stubs = [pb_grpc.RetrievalServiceStub(one) for one in channels]
        one = pb.RetrieveRequest(user_id="u1")
        for stub in stubs:
            stub.Retrieve(one, timeout=5, metadata=_header(_TOKEN))
        file.write_text(_table("web", _NEW))
        time.sleep(2)
        for stub in stubs:
            call: Any = stub.Retrieve
            error = _refusal(lambda call=call: call(one, timeout=5, metadata=_header(_TOKEN)))
            assert error.code() is _UNAUTHENTICATED
            stub.Retrieve(one, timeout=5, metadata=_header(_NEW))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file holds no token"),
        ("[web", "Expected ']'"),
        ("web = 1", "web must be a table"),
        ("[web]", "[web]: token_sha256 must be 64 hexadecimal digits"),
        ('[web]\ntoken_sha256 = "secret"', "[web]: token_sha256 must be 64 hexadecimal digits"),
        ("[web]\ntoken_sha256 = 1", "[web]: token_sha256 must be 64 hexadecimal digits"),
        (
            '[web]\ntoken = "secret"',
            "[web]: unknown setting token; known are token_sha256",
        ),
        (_table("web", _TOKEN, -1), "[web]: requests_per_s must be a number greater than 0"),
        (_table("web", _TOKEN) + "requests_per_s = 0", "[web]: requests_per_s must be a number"),
        (_table("web", _TOKEN) + "requests_per_s = true", "[web]: requests_per_s must be"),
        (_table("web", _TOKEN) + "requests_per_s = inf", "[web]: requests_per_s must be"),
        (_table("web", _TOKEN) + _table("two", _TOKEN), "[web] and [two] have the same token"),
        (_table("web", _TOKEN) + _table("web", _NEW), "line 3"),
    ],
)
def test_a_file_that_is_none(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    assert cli.main(["serve", "--port", "0", "--tokens", str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: ")
    assert said in error
    assert "secret" not in error


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match=r"nowhere\.toml: No such file or directory"):
        Guard(str(tmp_path / "nowhere.toml"))


def test_a_new_token_for_every_command(
    serve: Serve,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cli.main(["token", "web"]) == 0
    _, token, _, lines = capsys.readouterr().out.strip().split("\n\n")
    assert len(token) >= 43
    file, token_file, ids = tmp_path / "tokens.toml", tmp_path / "web.token", tmp_path / "ids.txt"
    file.write_text(lines)
    token_file.write_text(token + "\n")
    ids.write_text("u1\n")
    address = serve(tokens=str(file)).address
    load = ["--users", str(ids), "--concurrency", "2", "--duration", "0.3", "--warm-up", "0"]
    for command in (["ask", "--user", "u1"], ["bench", *load, "--json"]):
        assert cli.main([*command, "--address", address]) == 1
        capsys.readouterr()
        assert cli.main([*command, "--address", address, "--token-file", str(token_file)]) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == {}
    monkeypatch.setenv("SHORTLIST_TOKEN_FILE", str(token_file))
    assert cli.main(["ask", "--user", "u1", "--address", address]) == 0
    assert cli.main(["health", "--address", address]) == 0
    token_file.write_text("two tokens")
    capsys.readouterr()
    assert cli.main(["ask", "--user", "u1", "--address", address]) == 1
    assert capsys.readouterr().err == (
        f"error: {token_file}: the file must hold exactly one token\n"
    )


def test_tokens_differ_and_names_are_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert tokens.new_token("web")[0] != tokens.new_token("web")[0]
    with pytest.raises(SystemExit):
        cli.main(["token", "a name"])
    assert "letters, digits, _ and -" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((one, True) for one in ("127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]")),
        *((one, False) for one in ("0.0.0.0", "::", "[::]", "192.0.2.1", "2001:db8::1")),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert exposure.is_loopback(host) is loopback


def test_a_host_that_there_is_not() -> None:
    with pytest.raises(StartError, match=r"cannot listen on nowhere\.invalid:50051: "):
        exposure.check_exposure(
            "nowhere.invalid", 50051, tls=False, client_certificates=False, tokens=False
        )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """The settings of services that would have started."""
    found: list[Settings] = []

    async def serve(settings: Settings, *_: object, **__: object) -> None:
        found.append(settings)

    monkeypatch.setattr(server, "serve", serve)
    return found


_TLS = ("--tls-cert", "c", "--tls-key", "k")


@pytest.mark.parametrize(
    ("flags", "warning"),
    [
        ((*_TLS,), "anyone who reaches 0.0.0.0 can call the service"),
        (("--tokens", "t"), "there is no TLS"),
        ((*_TLS, "--tls-client-ca", "a"), None),
        ((*_TLS, "--tokens", "t"), None),
        (("--insecure",), None),
        (("--insecure", "--tokens", "t"), None),
    ],
)
def test_a_public_address(
    flags: tuple[str, ...],
    warning: str | None,
    started: list[Settings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert cli.main(["serve", "--host", "0.0.0.0", *flags]) == 0
    assert len(started) == 1
    assert [one.getMessage().split(":")[0] for one in caplog.records] == (
        [warning] if warning else []
    )


def test_a_public_address_is_refused(
    started: list[Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    public = ["serve", "--host", "0.0.0.0", "--workers", "1"]
    for refused in (public, [*public, "--insecure", "no"], [*public, "--workers", "2"]):
        assert cli.main(refused) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: --host 0.0.0.0 can be reached from other machines")
        assert "--tls-cert and --tls-key, or --tokens, or else --insecure" in error
    assert started == []
    assert cli.main(["serve"]) == 0
    monkeypatch.setenv("SHORTLIST_INSECURE", "1")
    assert cli.main(public) == 0
    assert len(started) == 2
