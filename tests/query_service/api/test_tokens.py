"""Tokens and their rate limits, over real sockets."""

import contextlib
import json
import logging
import queue
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from query_service.cli import main as cli
from query_service.client import RetrievalClient
from retrieval.v1 import interaction_service_pb2, interaction_service_pb2_grpc
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from rpc import tokens
from rpc.guard import RELOAD_INTERVAL_S
from tests.conftest import running
from tests.query_service.conftest import TRANSPORTS, FakeModelServer, Service
from tests.rpc.test_tokens import table
from tools.waiting import until

Serve = Callable[..., Service]

_TOKEN, _OTHER, _NEW = "a-token-of-web", "a-token-of-batch", "the-new-token-of-web"
_UNAUTHENTICATED, _EXHAUSTED = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(table("web", _TOKEN) + table("batch", _OTHER))
    return path


@pytest.fixture(params=TRANSPORTS)
def guarded(request: pytest.FixtureRequest, serve: Serve, file: Path, seen_path: Path) -> Service:
    return serve(transport=request.param, tokens=str(file), seen_store=f"sqlite:{seen_path}")


def _calls(service: Service) -> dict[str, Callable[..., Any]]:
    """Return a call of every method that needs a token."""
    one = pb.RetrieveRequest(user_id="u1", max_candidates=3)
    reflecting: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
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


def test_client_sends_its_token(guarded: Service) -> None:
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
def test_calls_without_a_valid_token_are_refused_with_one_message(
    guarded: Service, method: str
) -> None:
    call = _calls(guarded)[method]
    for good in (f"Bearer {_TOKEN}", f"bearer {_OTHER}"):
        assert call(metadata=[("authorization", good)])
    wrong = ["", "Bearer", "Bearer ", f"Basic {_TOKEN}", _TOKEN, "Bearer nothing"]
    wrong += [f"Bearer {_TOKEN}x", f"Bearer {tokens.digest(_TOKEN).hex()}"]
    headers = [[], *([("authorization", value)] for value in wrong), [("token", _TOKEN)]]
    refusals = [_refusal(partial(call, metadata=header)) for header in headers]
    assert {error.code() for error in refusals} == {_UNAUTHENTICATED}
    # All messages are the same, so that they do not say what is wrong with a token.
    assert len({error.details() for error in refusals}) == 1


def test_open_reflection_stream_ends_when_its_token_is_removed(
    guarded: Service, file: Path
) -> None:
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    more: queue.Queue[Any] = queue.Queue()
    reflecting: Any = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    ask: Any = reflecting.ServerReflectionInfo
    answers = ask(iter(more.get, None), timeout=20, metadata=_header(_TOKEN))
    for _ in range(3):
        more.put(question)
        assert next(answers).list_services_response.service
    file.write_text(table("batch", _OTHER))
    _wait_for_code(guarded, _TOKEN, _UNAUTHENTICATED)
    more.put(question)
    assert _refusal(lambda: next(answers)).code() is _UNAUTHENTICATED
    more.put(None)


def test_each_message_of_a_reflection_stream_counts_as_a_request(
    guarded: Service, file: Path
) -> None:
    file.write_text(table("web", _TOKEN, 5) + table("batch", _NEW))
    _wait_for_code(guarded, _NEW, grpc.StatusCode.OK)
    questions = [reflection_pb2.ServerReflectionRequest(list_services="")] * 100
    reflecting: Any = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    ask: Any = reflecting.ServerReflectionInfo
    answers = ask(iter(questions), timeout=20, metadata=_header(_TOKEN))
    assert _refusal(lambda: list(answers)).code() is _EXHAUSTED


def test_health_needs_no_token(guarded: Service) -> None:
    assert guarded.health() == 1


def test_request_is_not_parsed_without_a_token(guarded: Service) -> None:
    raw: Any = guarded.channel.unary_unary("/retrieval.v1.RetrievalService/Retrieve")
    assert _refusal(lambda: raw(b"\xff", timeout=5)).code() is _UNAUTHENTICATED
    known = [("authorization", f"Bearer {_TOKEN}")]
    error = _refusal(lambda: raw(b"\xff", timeout=5, metadata=known))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def _wait_for_code(service: Service, token: str, code: grpc.StatusCode) -> float:
    """Call the service until the status is ``code``; return the seconds that it took."""
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


def test_tokens_change_without_a_restart(guarded: Service, file: Path) -> None:
    assert _ask(guarded, _TOKEN) == 7
    file.write_text(table("web", _TOKEN) + table("web-2", _NEW) + table("batch", _OTHER))
    _wait_for_code(guarded, _NEW, grpc.StatusCode.OK)
    assert _ask(guarded, _TOKEN) == 7
    file.write_text(table("web-2", _NEW) + table("batch", _OTHER))
    assert _wait_for_code(guarded, _TOKEN, _UNAUTHENTICATED) < 2
    assert _ask(guarded, _NEW) == _ask(guarded, _OTHER) == 7


def _header(token: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "x"), ("authorization", f"Bearer {token}")]


def test_log_has_counts_but_neither_tokens_nor_ids(
    guarded: Service, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user, wrong = "a-user-with-a-name", "a-wrong-token"
    request = pb.RetrieveRequest(user_id=user)
    for token in (wrong, wrong, _TOKEN, wrong):
        with contextlib.suppress(grpc.RpcError):
            guarded.stub.Retrieve(request, metadata=_header(token), timeout=5)
    file.write_text(table("web", _NEW))
    _wait_for_code(guarded, _NEW, grpc.StatusCode.OK)
    end_s = time.monotonic() + 10
    counts: list[str] = []
    while sum(map(int, counts)) < 3:
        assert time.monotonic() < end_s
        time.sleep(0.02)
        counts = re.findall(r"(\d+) calls without a valid token", caplog.text)
    assert "loaded the tokens of web" in caplog.text
    for secret in (user, wrong, _TOKEN, _NEW, tokens.digest(_TOKEN).hex()):
        assert secret not in caplog.text


def test_refusals_are_logged_once_per_second(guarded: Service, caplog: Any) -> None:
    began = time.monotonic()
    while time.monotonic() < began + 2.2 * RELOAD_INTERVAL_S:
        _refusal(lambda: _ask(guarded, "nothing"))
    lines = [record for record in caplog.records if "without a valid token" in record.getMessage()]
    assert 1 <= len(lines) <= 3


def test_caller_over_its_rate_limit_is_refused_with_retry_info(
    guarded: Service, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(table("web", _TOKEN, 5) + table("batch", _OTHER))
    _wait_for_code(guarded, _OTHER, grpc.StatusCode.OK)
    end_s = time.monotonic() + 10
    error = None
    with RetrievalClient(guarded.address, token=_TOKEN) as client:
        while error is None:
            assert time.monotonic() < end_s
            try:
                client.for_user("u1")
            except grpc.RpcError as raised:
                error = raised
        assert error.code() is _EXHAUSTED
        assert error.details() == "web is limited to 5 requests per second"
        wait_s = _retry_after_s(error)
        assert 0 < wait_s <= 0.2
        # Other callers are not affected.
        assert _ask(guarded, _OTHER) == 7
        time.sleep(wait_s)
        assert client.for_user("u1").model_version == 7
    # One line per second, instead of one per request.
    until(lambda: "calls from web were refused: its limit is 5 requests per second" in caplog.text)
    assert "request failed" not in caplog.text


def _retry_after_s(error: Any) -> float:
    status = rpc_status.from_call(error)
    assert status is not None
    (detail,) = status.details
    retry = error_details_pb2.RetryInfo()
    assert detail.Unpack(retry)
    return float(retry.retry_delay.ToNanoseconds() / 1e9)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_batch_counts_each_request_in_it(serve: Serve, file: Path, transport: str) -> None:
    file.write_text(table("web", _TOKEN, 0.5))
    service = serve(transport=transport, tokens=str(file))
    one = pb.RetrieveRequest(user_id="u1")
    batch = pb.BatchRetrieveRequest(requests=[one] * 50)
    results = service.stub.BatchRetrieve(batch, timeout=5, metadata=_header(_TOKEN)).results
    assert [result.response.model_version for result in results] == [7] * 50
    call: Any = service.stub.Retrieve
    error = _refusal(lambda: call(one, timeout=5, metadata=_header(_TOKEN)))
    assert error.code() is _EXHAUSTED
    # 50 requests at one in two seconds.
    assert 90 < _retry_after_s(error) <= 100


def test_empty_batch_counts_as_one_request(serve: Serve, file: Path) -> None:
    file.write_text(table("web", _TOKEN, 0.5))
    call: Any = serve(tokens=str(file)).stub.BatchRetrieve
    empty = pb.BatchRetrieveRequest()
    codes = {
        _refusal(lambda: call(empty, timeout=5, metadata=_header(_TOKEN))).code() for _ in range(9)
    }
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT, _EXHAUSTED}


def test_each_of_several_workers_reloads_the_file(
    model_server: FakeModelServer, file: Path
) -> None:
    to = f"127.0.0.1:{model_server.port}"
    arguments = ("--port", "0", "--workers", "2", "--model-server", to, "--tokens", str(file))
    with running("query_service", "serve", *arguments) as (address, _), contextlib.ExitStack() as s:
        local = [("grpc.use_local_subchannel_pool", 1)]
        # They all reach the same worker with a probability of 2 ** -15.
        channels = [s.enter_context(grpc.insecure_channel(address, local)) for _ in range(16)]
        stubs = [pb_grpc.RetrievalServiceStub(one) for one in channels]
        one = pb.RetrieveRequest(user_id="u1")
        for stub in stubs:
            stub.Retrieve(one, timeout=5, metadata=_header(_TOKEN))
        file.write_text(table("web", _NEW))
        time.sleep(2)
        for stub in stubs:
            call: Any = stub.Retrieve
            error = _refusal(partial(call, one, timeout=5, metadata=_header(_TOKEN)))
            assert error.code() is _UNAUTHENTICATED
            stub.Retrieve(one, timeout=5, metadata=_header(_NEW))


def test_new_token_works_with_every_command(
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
