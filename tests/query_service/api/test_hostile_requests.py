"""Arbitrary requests over a real socket get a valid answer or a documented status."""

import random
import socket
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from query_service.api import wire
from query_service.errors import InvalidRequest
from retrieval.v1 import interaction_service_pb2 as interaction_pb
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.conftest import running
from tests.fuzz.contract import BATCH, RETRIEVE, violations
from tests.fuzz.service import attack
from tests.query_service.conftest import FakeModelServer, Service

Code = grpc.StatusCode
_LEGAL = {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND}
RECORD = "RecordInteractions"
_SEEN = {"u1": {"i0", "i2", "i4"}}
_hostile = settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _ask(service: Service, method: str, data: bytes) -> Code:
    """Return the status, after checking the answer if there is one."""
    rpc: Any = service.channel.unary_unary(f"/retrieval.v1.RetrievalService/{method}")
    call = rpc.future(data, timeout=30)
    if call.code() is Code.OK:
        seen = lambda user: _SEEN.get(user, set())  # noqa: E731
        assert violations(method, data, call.result(), seen) == []
    code: Code = call.code()
    return code


_known = st.sampled_from([f"i{n}" for n in range(50)])
_ids = st.one_of(
    _known,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["", "u1", "\0", "a" * 256, "a" * 257, "é" * 128, "é" * 129, "\U0010ffff"]),
)


@st.composite
def _requests(draw: Any) -> pb.RetrieveRequest:
    """Return well-formed requests with any content."""
    request = pb.RetrieveRequest(
        max_candidates=draw(st.one_of(st.integers(0, 60), st.integers(-(2**31), 2**31 - 1))),
        exclude_seen=draw(st.booleans()),
        exclude_item_ids=draw(st.lists(_ids, max_size=60)),
        viewer_id=draw(st.one_of(st.just(""), _ids)),
        recent_item_ids=draw(st.one_of(st.just([]), st.lists(_ids, max_size=10))),
    )
    which = draw(st.sampled_from(["user_id", "user_id", "item_id", None]))
    if which:
        setattr(request, which, draw(_ids))
    return request


@_hostile
@given(_requests())
def test_any_message_gets_a_documented_status(
    service: Service, request_: pb.RetrieveRequest
) -> None:
    assert _ask(service, RETRIEVE, request_.SerializeToString()) in _LEGAL


@_hostile
@given(st.lists(_requests(), max_size=8))
def test_any_batch_gets_a_documented_status(
    service: Service, requests: list[pb.RetrieveRequest]
) -> None:
    batch = pb.BatchRetrieveRequest(requests=requests)
    code = _ask(service, BATCH, batch.SerializeToString())
    assert code is (Code.OK if requests else Code.INVALID_ARGUMENT)


@_hostile
@given(st.sampled_from([RETRIEVE, BATCH]), st.binary(max_size=300))
@example(RETRIEVE, b"\x0a\x03\xed\xa0\x80")  # Half of a surrogate pair.
@example(
    RETRIEVE, b"\x0a\x01u\x18" + b"\xff" * 9 + b"\x01"
)  # max_candidates as a varint of ten bytes.
@example(RETRIEVE, b"\x0a\x01u\x18" + b"\xff" * 10)
@example(RETRIEVE, b"\x0a" + b"\xff" * 9 + b"\x01u")  # A string of 2^64 - 1 bytes.
@example(RETRIEVE, b"\x0a\x01u" + b"\x53" * 50 + b"\x54" * 50)  # Unknown groups,
@example(RETRIEVE, b"\x0a\x01u" + b"\x53" * 50_000)  # nested 50,000 deep and never ended.
@example(RETRIEVE, b"\x0a\x01u" + b"\xa2\x06\x04abcd" * 99)
@example(BATCH, b"\x0a\x02\x0a\xff")
def test_any_bytes_get_a_documented_status(service: Service, method: str, data: bytes) -> None:
    assert _ask(service, method, data) in _LEGAL


def test_any_path_is_unimplemented(service: Service) -> None:
    """With ``--transport aio`` the third path ends the server, which is a bug of grpc.aio."""
    for path in (b"", b"/", b"/\xff\xfe/\x80", b"no slash", b"/" + b"x" * 6_000):
        rpc: Any = service.channel.unary_unary(path)  # type: ignore[arg-type]
        assert rpc.future(b"", timeout=10).code() is Code.UNIMPLEMENTED, path
    assert _ask(service, RETRIEVE, b"\x0a\x01u") is Code.OK


def test_connection_without_http2_does_not_harm_others(service: Service) -> None:
    host, port = service.address.split(":")
    source = random.Random(4)
    for start in (b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(start + source.randbytes(5_000))
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(65_536):
                    pass
            except ConnectionResetError:
                pass
    assert _ask(service, RETRIEVE, b"\x0a\x01u") is Code.OK


@pytest.fixture
def process(model_server: FakeModelServer) -> Any:
    """Start a service in a process of its own; yield its address and the process."""
    arguments = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    with running("query_service", *arguments) as (address, process):
        yield address, psutil.Process(process.pid)


_MB = 1 << 20


@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        (RETRIEVE, b"\xa2\x06\x80\x80\x80\x20" + bytes(64 * _MB), Code.RESOURCE_EXHAUSTED),
        (RETRIEVE, b"\x2a\x00" * (32 * _MB), Code.INVALID_ARGUMENT),
        (BATCH, b"\x0a\x00" * (32 * _MB), Code.INVALID_ARGUMENT),
        (BATCH, b"\x53\x54" * (32 * _MB), Code.INVALID_ARGUMENT),
        (
            BATCH,
            (b"\x0a\x80\x80\x0f" + b"\x2a\x00" * (120 * 1024)) * 256,
            Code.INVALID_ARGUMENT,
        ),
        (RETRIEVE, b"\x53" * (64 * _MB), Code.INVALID_ARGUMENT),
        (RECORD, b"\x0a\x00" * (31 * _MB), Code.INVALID_ARGUMENT),
    ],
)
def test_message_of_64_mb_takes_little_memory(
    process: tuple[str, psutil.Process], method: str, data: bytes, code: Code
) -> None:
    address, service = process
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        service_name = "InteractionService" if method == RECORD else "RetrievalService"
        ask: Any = channel.unary_unary(f"/retrieval.v1.{service_name}/{method}")
        assert ask.future(data, timeout=30).code() is code
        peak = _peak_bytes(service)
        assert peak < 400 * _MB, f"{peak / _MB:.0f} MB"
        assert ask.future(b"", timeout=10).code() is Code.INVALID_ARGUMENT


def test_decompressed_size_of_a_message_is_limited(process: tuple[str, psutil.Process]) -> None:
    """400 MB of zeros are 400 kB when compressed."""
    address, service = process
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        retrieve: Any = channel.unary_unary("/retrieval.v1.RetrievalService/Retrieve")
        call = retrieve.future(bytes(400 * _MB), timeout=60, compression=grpc.Compression.Gzip)
        assert call.code() is Code.RESOURCE_EXHAUSTED
    assert _peak_bytes(service) < 400 * _MB


def _peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"\x0a" + b"\xff" * 9 + b"\x01" + b"\x0a\x00" * 400)
@example(b"\x0a\x00" * 357)
def test_field_count_agrees_with_protobuf(data: bytes) -> None:
    """A malformed message may pass or not: the parser refuses it later."""
    try:
        requests = pb.BatchRetrieveRequest.FromString(data).requests
    except DecodeError:
        requests = None
    try:
        wire.check_request(data)
        wire.check_batch(data)
    except InvalidRequest:
        assert requests is None or len(requests) > 256


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"\x0a\x00" * 1_101)
@example(b"\x0a\xca\x01" + b"\x1a\x00" * 101)
def test_interaction_count_agrees_with_protobuf(data: bytes) -> None:
    try:
        interactions = interaction_pb.RecordInteractionsRequest.FromString(data).interactions
    except DecodeError:
        interactions = None
    try:
        wire.check_interactions(data)
    except InvalidRequest:
        assert (
            interactions is None
            or len(interactions) > 1_000
            or max(one.ByteSize() for one in interactions) > 200
        )


def test_largest_batch_of_interactions_is_accepted() -> None:
    pairs = [interaction_pb.Interaction(user_id="u" * 256, item_id="i" * 256)] * 1_000
    data = interaction_pb.RecordInteractionsRequest(interactions=pairs).SerializeToString()
    assert len(data) > wire.LARGE_BYTES
    wire.check_interactions(data)
    for wrong, message in [
        (b"\x0a\x00" * 1_101, "must have 1 to 1000 entries"),
        (
            b"\x0a\xca\x01" + b"\x1a\x00" * 101,
            r"interactions\[0\]: must not have more",
        ),
    ]:
        with pytest.raises(InvalidRequest, match=message):
            wire.check_interactions(wrong)


def test_2_000_fuzzed_requests_keep_the_contract(
    service: Service, model_server: FakeModelServer
) -> None:
    """``python -m tests.fuzz service`` sends 100,000."""
    model_server.ranking = [f"i{n}" for n in range(300)]
    tally = attack(service.address, 2_000, seed=2)
    assert tally.clean, (tally.line(), tally.violations, tally.examples)
    assert tally.statuses.total() == 2_000
    assert min(tally.statuses["OK"], tally.statuses["INVALID_ARGUMENT"]) > 600
