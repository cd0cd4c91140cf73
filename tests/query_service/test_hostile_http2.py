"""HTTP/2 by hand: what no gRPC library would send."""

import socket
import struct

import pytest

from retrieval.v1 import retrieval_service_pb2 as pb
from tests.conftest import running
from tests.query_service.conftest import FakeModelServer, Service

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_GOOD = pb.RetrieveRequest(user_id="u", max_candidates=1).SerializeToString()
_HEAD = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/retrieval.v1.RetrievalService/Retrieve"),
    (b":authority", b"x"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers(*pairs: tuple[bytes, bytes]) -> bytes:
    """HPACK's plainest form: literals that are never indexed; texts of less than 127 bytes."""
    return b"".join(
        b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
    )


def _message(data: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data


def _exchange(address: str, head: list[tuple[bytes, bytes]], body: bytes | None) -> list[int]:
    """Types of the frames that came back until the stream, or the connection, was over."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        flags = _END_HEADERS | (_END_STREAM if body is None else 0)
        sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0)
        sent += _frame(_HEADERS, flags, 1, _headers(*head))
        if body is not None:
            sent += _frame(_DATA, _END_STREAM, 1, body)
        connection.sendall(sent)
        try:
            return _frames(connection)
        except ConnectionResetError:
            return []


def _frames(connection: socket.socket) -> list[int]:
    kinds: list[int] = []
    with connection.makefile("rb") as stream:
        while len(head := stream.read(9)) == 9:
            length, kind, flags, number = struct.unpack(">IBBI", b"\0" + head)
            payload = stream.read(length)
            kinds.append(kind)
            if kind == _PING and not flags & _ACK:
                connection.sendall(_frame(_PING, _ACK, 0, payload))
            ended = kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM)
            if (number == 1 and ended) or kind == _GOAWAY:
                break
    return kinds


def test_the_frames_by_hand_are_good(service: Service) -> None:
    assert _DATA in _exchange(service.address, _HEAD, _message(_GOOD))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (_HEAD, None),
        (_HEAD, b""),
        (_HEAD, _message(_GOOD)[:3]),
        (_HEAD, _message(_GOOD, length=2**32 - 1)),
        (_HEAD, _message(_GOOD) * 3),
        (_HEAD, _message(_GOOD, compressed=1)),
        (_HEAD, _message(_GOOD, compressed=255)),
        ([*_HEAD, (b"grpc-encoding", b"gzip")], _message(b"\x1f\x8bnot gzip", compressed=1)),
        ([*_HEAD, (b"grpc-encoding", b"nothing")], _message(_GOOD, compressed=1)),
        ([*_HEAD, (b"grpc-timeout", b"-1S")], _message(_GOOD)),
        ([*_HEAD, (b"grpc-timeout", b"99999999H")], _message(_GOOD)),
        ([*_HEAD, (b"grpc-timeout", b"x" * 100)], _message(_GOOD)),
        ([*_HEAD, (b"grpc-timeout", b"0n")], _message(_GOOD)),
        ([*_HEAD, (b"x-text", b"\xff\xfe\x80")], _message(_GOOD)),
        ([*_HEAD, (b"x-bin", b"\xff!not base64")], _message(_GOOD)),
        ([*_HEAD, (b"\xff", b"a")], _message(_GOOD)),
        ([*_HEAD, *_HEAD], _message(_GOOD)),
        (_HEAD[3:], _message(_GOOD)),
        ([(b":path", b"\xff\xfe"), *_HEAD], _message(_GOOD)),
        ([(b":path", b""), *_HEAD[3:]], _message(_GOOD)),
        ([*_HEAD, *[(b"a", b"b" * 120)] * 120], _message(_GOOD)),
        ([*_HEAD, *[(b"a", b"b" * 120)] * 600], _message(_GOOD)),
    ],
)
def test_every_stream_ends_and_the_service_goes_on(
    service: Service, head: list[tuple[bytes, bytes]], body: bytes | None
) -> None:
    # One that does not end is a timeout here.
    _exchange(service.address, head, body)
    request = pb.RetrieveRequest(user_id="u", max_candidates=1)
    assert [one.item_id for one in service.stub.Retrieve(request).candidates] == ["i0"]


def test_a_token_that_is_no_text_is_not_logged(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    with running("query_service", *arguments) as (address, _):
        head = [*_HEAD, (b"authorization", b"Bearer s3cret\xff")]
        assert _DATA in _exchange(address, head, _message(_GOOD))
    assert "s3cret" not in capfd.readouterr().err
