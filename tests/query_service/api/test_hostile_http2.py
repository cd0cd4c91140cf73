"""Malformed HTTP/2 that no gRPC library would send."""

import pytest

from retrieval.v1 import retrieval_service_pb2 as pb
from tests.conftest import running
from tests.query_service.api.http2 import DATA, REQUEST_HEADERS, exchange, grpc_message
from tests.query_service.conftest import FakeModelServer, Service

_GOOD = pb.RetrieveRequest(user_id="u", max_candidates=1).SerializeToString()


def test_valid_frames_get_an_answer(service: Service) -> None:
    assert DATA in exchange(service.address, REQUEST_HEADERS, grpc_message(_GOOD))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (REQUEST_HEADERS, None),
        (REQUEST_HEADERS, b""),
        (REQUEST_HEADERS, grpc_message(_GOOD)[:3]),
        (REQUEST_HEADERS, grpc_message(_GOOD, length=2**32 - 1)),
        (REQUEST_HEADERS, grpc_message(_GOOD) * 3),
        (REQUEST_HEADERS, grpc_message(_GOOD, compressed=1)),
        (REQUEST_HEADERS, grpc_message(_GOOD, compressed=255)),
        (
            [*REQUEST_HEADERS, (b"grpc-encoding", b"gzip")],
            grpc_message(b"\x1f\x8bnot gzip", compressed=1),
        ),
        ([*REQUEST_HEADERS, (b"grpc-encoding", b"nothing")], grpc_message(_GOOD, compressed=1)),
        ([*REQUEST_HEADERS, (b"grpc-timeout", b"-1S")], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, (b"grpc-timeout", b"99999999H")], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, (b"grpc-timeout", b"x" * 100)], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, (b"grpc-timeout", b"0n")], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, (b"x-text", b"\xff\xfe\x80")], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, (b"x-bin", b"\xff!not base64")], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, (b"\xff", b"a")], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, *REQUEST_HEADERS], grpc_message(_GOOD)),
        (REQUEST_HEADERS[3:], grpc_message(_GOOD)),
        ([(b":path", b"\xff\xfe"), *REQUEST_HEADERS], grpc_message(_GOOD)),
        ([(b":path", b""), *REQUEST_HEADERS[3:]], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, *[(b"a", b"b" * 120)] * 120], grpc_message(_GOOD)),
        ([*REQUEST_HEADERS, *[(b"a", b"b" * 120)] * 600], grpc_message(_GOOD)),
    ],
)
def test_malformed_stream_ends_and_the_service_continues(
    service: Service, head: list[tuple[bytes, bytes]], body: bytes | None
) -> None:
    # A stream that does not end is a timeout here.
    exchange(service.address, head, body)
    request = pb.RetrieveRequest(user_id="u", max_candidates=1)
    assert [candidate.item_id for candidate in service.stub.Retrieve(request).candidates] == ["i0"]


def test_token_that_is_not_text_is_not_logged(
    model_server: FakeModelServer, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ("serve", "--port", "0", "--model-server", f"127.0.0.1:{model_server.port}")
    with running("query_service", *arguments) as (address, _):
        head = [*REQUEST_HEADERS, (b"authorization", b"Bearer s3cret\xff")]
        assert DATA in exchange(address, head, grpc_message(_GOOD))
    assert "s3cret" not in capfd.readouterr().err
