"""TLS as gRPC does it: of the port towards callers, and of the channel to the model server."""

import logging
import threading

import grpc

from query_service.errors import UnusableFile
from query_service.settings import Settings
from rpc.pem import read_certificates, read_file, read_pair

logger = logging.getLogger(__name__)


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What the port is opened with; None: without TLS.

    The files are looked at again with every new connection. Where they have changed, what is new
    holds from that connection on; where they cannot be used, the last good ones stay.

    Raises:
        UnusableFile: a file cannot be used.
    """
    if not settings.tls_cert:
        return None
    files = _Files(settings)
    return grpc.dynamic_ssl_server_credentials(
        files.configuration(),
        files.changed,  # type: ignore[arg-type]  # None is for no change
        bool(settings.tls_client_ca),
    )


def channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """What the model server is asked with; None: without TLS.

    Raises:
        UnusableFile: a file cannot be used.
    """
    if not settings.model_server_ca:
        return None
    chain = key = None
    if settings.model_server_cert:
        chain, key = read_pair(settings.model_server_cert, settings.model_server_key)
    return grpc.ssl_channel_credentials(read_certificates(settings.model_server_ca), key, chain)


class _Files:
    """The files of the port, as they were when they were good last."""

    def __init__(self, settings: Settings) -> None:
        self._paths = [settings.tls_cert, settings.tls_key]
        if settings.tls_client_ca:
            self._paths.append(settings.tls_client_ca)
        # gRPC asks from threads of its own.
        self._lock = threading.Lock()
        self._good = self._read()
        self._complaint = ""

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """The last good ones."""
        chain, key, *client_ca = self._good
        return grpc.ssl_server_certificate_configuration([(key, chain)], *client_ca)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """New ones, or None where gRPC has what there is."""
        with self._lock:
            try:
                # With every connection, so only what is new is checked.
                if tuple(map(read_file, self._paths)) == self._good:
                    self._complaint = ""
                    return None
                found = self._read()
            except UnusableFile as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    logger.warning("TLS goes on with the files of before: %s", error)
                return None
            self._good, self._complaint = found, ""
            logger.info("TLS takes the new files from here on")
            return self.configuration()

    def _read(self) -> tuple[bytes, ...]:
        cert, key, *client_ca = self._paths
        return (*read_pair(cert, key), *map(read_certificates, client_ca))
