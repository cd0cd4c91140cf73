"""Formats addresses, and refuses to listen on public ones without protection."""

import ipaddress
import logging
import socket

from rpc.errors import StartError

logger = logging.getLogger(__name__)


def host_port(host: str, port: int) -> str:
    """Return ``host:port``, with an IPv6 address in brackets: ``[::1]:80``."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def grpc_target(addresses: str) -> str:
    """Return the gRPC target for ``HOST:PORT``, or for several addresses separated by commas.

    A channel resolves one name, which may stand for many IP addresses. A list of addresses must
    therefore consist of IP addresses of one family.

    Raises:
        ValueError: There are several addresses, and they are not all ``IP:PORT`` of one family.
    """
    if "," not in addresses:
        return addresses
    parts = [address.strip() for address in addresses.split(",")]
    try:
        families = {ipaddress.ip_address(_host(part)).version for part in parts}
    except ValueError:
        families = set()
    if len(families) != 1:
        raise ValueError(
            f"several addresses must be IP addresses of one family, IP:PORT,IP:PORT, not "
            f"{addresses!r}; or use one host name that resolves to all of them"
        )
    return f"ipv{families.pop()}:{','.join(parts)}"


def check_exposure(
    host: str, port: int, *, tls: bool, client_certificates: bool, tokens: bool
) -> None:
    """Refuse to listen on a public address without TLS and without tokens.

    Log a warning if there is no TLS, or if callers need neither a token nor a certificate.

    Raises:
        StartError: The address is public with neither TLS nor tokens, or the host does not resolve.
    """
    try:
        if is_loopback(host):
            return
    except OSError as error:
        reason = f"cannot listen on {host_port(host, port)}: {error.strerror}"
        raise StartError(reason) from error
    if not tls and not tokens:
        raise StartError(
            f"--host {host} can be reached from other machines, and anyone there could call the "
            "service: set --tls-cert and --tls-key, or --tokens, or else --insecure"
        )
    if not tls:
        logger.warning("there is no TLS: others can read the tokens on their way to %s", host)
    elif not tokens and not client_certificates:
        logger.warning(
            "anyone who reaches %s can call the service: there is TLS, but neither "
            "--tls-client-ca nor --tokens",
            host,
        )


def is_loopback(host: str) -> bool:
    """Return True if every address of the host is a loopback address.

    Raises:
        OSError: The host does not resolve.
    """
    results = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in results)


def _host(address: str) -> str:
    """Return the host of ``HOST:PORT``. Raises ValueError if there is no port."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(address)
    return host.removeprefix("[").removesuffix("]")
