"""Where the service listens, and whether that needs TLS or tokens."""

import ipaddress
import logging
import socket

from query_service.errors import StartError
from query_service.process.sockets import address
from query_service.settings import Settings

logger = logging.getLogger(__name__)


def check_exposure(settings: Settings) -> None:
    """Refuse to listen where other machines could ask without TLS and without a token.

    Warns where one of the two leaves a gap. ``--insecure`` ends both.

    Raises:
        StartError: with what to do; or there is no such host.
    """
    if settings.insecure:
        return
    try:
        if is_loopback(settings.host):
            return
    except OSError as error:
        where = address(settings.host, settings.port)
        raise StartError(f"cannot listen on {where}: {error.strerror}") from error
    if not settings.tls_cert and not settings.tokens:
        raise StartError(
            f"--host {settings.host} can be reached from other machines, and anyone there could "
            "ask: give --tls-cert and --tls-key, or --tokens, or else --insecure"
        )
    if not settings.tls_cert:
        logger.warning("tokens can be read on their way to %s: there is no TLS", settings.host)
    elif not settings.tokens and not settings.tls_client_ca:
        logger.warning(
            "anyone who reaches %s may ask: there is TLS, but no --tls-client-ca and no --tokens",
            settings.host,
        )


def is_loopback(host: str) -> bool:
    """Whether all the addresses of a host are this machine's own.

    Raises:
        OSError: there is no such host.
    """
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(place[0]).is_loopback for *_, place in found)
