"""A port can be reserved for several processes."""

import socket
import sys

import pytest

from query_service.errors import StartError
from query_service.process.sockets import reserve
from tests.query_service.conftest import has_ipv6
from tests.skips import applies_if, not_applicable

pytestmark = [
    applies_if(sys.platform == "linux", "Linux"),
    pytest.mark.timeout(30),
]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "[::1]", "::"])
def test_port_0_reserves_a_free_port_on_all_addresses(host: str) -> None:
    if ":" in host and not has_ipv6():
        raise not_applicable("IPv6")
    held, port = reserve(host, 0)
    assert port
    for bound in held:
        assert bound.getsockname()[1] == port
        bound.close()


def test_reserved_port_cannot_be_reserved_again() -> None:
    held, port = reserve("127.0.0.1", 0)
    with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: Address already"):
        reserve("127.0.0.1", port)
    for bound in held:
        bound.close()


def test_port_with_connections_in_time_wait_is_reserved() -> None:
    """A server without SO_REUSEPORT has closed a connection, which stays in TIME_WAIT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            client.recv(1)
    held, same = reserve("127.0.0.1", port)
    assert same == port
    for bound in held:
        bound.close()
