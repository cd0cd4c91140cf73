"""Addresses to listen on, and holding one for others to listen on."""

import errno
import socket
from typing import Any

from query_service.errors import StartError

#: Of a name with several addresses, not all need be this machine's: ::1 without IPv6.
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def address(host: str, port: int) -> str:
    """``host:port``; an IPv6 address in brackets, without which its end is taken for a port."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def reserve(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Hold a port, without listening: the sockets that do, and the port (a free one for 0).

    While they are open, only processes of this user that set SO_REUSEPORT can listen there.

    Raises:
        StartError: somebody listens there or holds it; or there is no such host.
    """
    taken: list[socket.socket] = []
    chosen = port
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        for position, (family, *_, one) in enumerate(found, start=1):
            try:
                taken.append(_bound_for_many(family, (one[0], chosen, *one[2:])))
            except OSError as error:
                if error.errno not in _NOT_HERE or (position == len(found) and not taken):
                    raise
            else:
                chosen = taken[0].getsockname()[1]
    except OSError as error:
        for socket_ in taken:
            socket_.close()
        raise StartError(f"cannot listen on {address(host, port)}: {error.strerror}") from error
    return taken, chosen


def _bound_for_many(family: int, place: tuple[Any, ...]) -> socket.socket:
    # With SO_REUSEPORT alone one would join another service that has it too.
    _bound(family, place, socket.SO_REUSEADDR).close()
    try:
        return _bound(family, place, socket.SO_REUSEPORT)
    # Connections that a server without SO_REUSEPORT has closed in the last minute. Not at once
    # with SO_REUSEADDR: until a worker listens, the check above would let others through.
    except OSError:
        return _bound(family, place, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(family: int, place: tuple[Any, ...], *options: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            one.setsockopt(socket.SOL_SOCKET, option, 1)
        one.bind(place)
    except OSError:
        one.close()
        raise
    return one
