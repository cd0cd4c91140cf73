"""Decides if a server may listen on an address without TLS or without tokens."""

import ipaddress
import logging
import socket

from rpc.addresses import host_port
from rpc.errors import StartError

logger = logging.getLogger(__name__)


def check_exposure(
    host: str, port: int, *, tls: bool, client_certificates: bool, tokens: bool
) -> None:
    """Refuse to listen on a public address without TLS and without tokens.

    Logs a warning if only one of the two is configured and that leaves a gap.

    Args:
        host: the address to listen on.
        port: the port to listen on, for messages.
        tls: the server has a certificate.
        client_certificates: the server requires certificates of its callers.
        tokens: the server requires tokens of its callers.

    Raises:
        StartError: the address is public and nothing protects it, or the host does not resolve.
    """
    try:
        if is_loopback(host):
            return
    except OSError as error:
        where = host_port(host, port)
        raise StartError(f"cannot listen on {where}: {error.strerror}") from error
    if not tls and not tokens:
        raise StartError(
            f"--host {host} can be reached from other machines, and anyone there could call the "
            "service: give --tls-cert and --tls-key, or --tokens, or else --insecure"
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
        OSError: the host does not resolve.
    """
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(place[0]).is_loopback for *_, place in found)
