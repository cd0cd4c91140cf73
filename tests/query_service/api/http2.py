"""HTTP/2 frames made by hand, to send what no gRPC library would send (RFC 9113, RFC 7541)."""

import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
REQUEST_HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/retrieval.v1.RetrievalService/Retrieve"),
    (b":authority", b"x"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return headers in the simplest form of HPACK: literals of less than 127 bytes, no index."""
    return b"".join(
        b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
    )


def grpc_message(data: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data


def exchange(address: str, head: list[tuple[bytes, bytes]], body: bytes | None) -> list[int]:
    """Send a request; return the types of the frames received until its stream has ended."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        flags = END_HEADERS | (END_STREAM if body is None else 0)
        sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
        sent += frame(HEADERS, flags, 1, header_block(*head))
        if body is not None:
            sent += frame(DATA, END_STREAM, 1, body)
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
            if kind == PING and not flags & ACK:
                connection.sendall(frame(PING, ACK, 0, payload))
            ended = kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM)
            if (number == 1 and ended) or kind == GOAWAY:
                break
    return kinds
