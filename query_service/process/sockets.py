"""Reserves a port for other processes to listen on."""

import errno
import socket
from typing import Any

from query_service.errors import StartError
from rpc.addresses import host_port

#: A name may resolve to addresses that this machine does not have, such as ::1 without IPv6.
_ADDRESS_MISSING = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def reserve(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Bind a port without listening on it, and return the sockets and the port.

    If ``port`` is 0, a free port is chosen. While the sockets are open, only processes of this user
    that set SO_REUSEPORT can listen on the port.

    Raises:
        StartError: The port is in use, or the host does not resolve.
    """
    bound: list[socket.socket] = []
    chosen = port
    try:
        results = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        for position, (family, *_, address) in enumerate(results, start=1):
            try:
                bound.append(_bind_shared(family, (address[0], chosen, *address[2:])))
            except OSError as error:
                none_is_left = position == len(results) and not bound
                if error.errno not in _ADDRESS_MISSING or none_is_left:
                    raise
            else:
                chosen = bound[0].getsockname()[1]
    except OSError as error:
        for bound_socket in bound:
            bound_socket.close()
        raise StartError(f"cannot listen on {host_port(host, port)}: {error.strerror}") from error
    return bound, chosen


def _bind_shared(family: int, address: tuple[Any, ...]) -> socket.socket:
    """Bind an address that the workers can share, and that no other service uses."""
    # First bind without SO_REUSEPORT, which would share the port with any service that sets it.
    _bind(family, address, socket.SO_REUSEADDR).close()
    try:
        return _bind(family, address, socket.SO_REUSEPORT)
    # The bind fails if a server without SO_REUSEPORT closed connections in the last minute
    # (TIME_WAIT). SO_REUSEADDR helps, but is only the second choice, because it would let another
    # service pass the check above until a worker listens.
    except OSError:
        return _bind(family, address, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bind(family: int, address: tuple[Any, ...], *options: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
