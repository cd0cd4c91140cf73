"""Creates the gRPC credentials with which servers and channels use TLS."""

import logging
import threading

import grpc

from rpc.errors import UnusableFile
from rpc.pem import TlsFiles, read_certificates, read_file, read_pair

logger = logging.getLogger(__name__)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials | None:
    """Return a server's credentials, or None (no TLS) if ``files`` names no certificate.

    The files are read again for every new connection, so that it uses their current content. If
    that is invalid, the last valid content stays in use.

    Raises:
        UnusableFile: A file cannot be used.
    """
    if not files.cert:
        return None
    reloading = _ReloadingFiles(files)
    return grpc.dynamic_ssl_server_credentials(
        reloading.configuration(),
        reloading.changed_configuration,  # type: ignore[arg-type]  # None means: no change
        bool(files.ca),
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials | None:
    """Return a channel's credentials, or None (no TLS) if ``files`` names no authorities.

    Raises:
        UnusableFile: A file cannot be used.
    """
    if not files.ca:
        return None
    chain = key = None
    if files.cert:
        chain, key = read_pair(files.cert, files.key)
    return grpc.ssl_channel_credentials(read_certificates(files.ca), key, chain)


class _ReloadingFiles:
    """Keeps the last valid content of a server's TLS files."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._paths = [path for path in (files.cert, files.key, files.ca) if path]
        # gRPC calls changed_configuration() from its own threads.
        self._lock = threading.Lock()
        self._last_valid = self._read()
        self._last_warning = ""

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the last valid configuration."""
        chain, key, *client_ca = self._last_valid
        return grpc.ssl_server_certificate_configuration([(key, chain)], *client_ca)

    def changed_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration, or None if gRPC already has the current one."""
        with self._lock:
            try:
                # This runs for every connection, so only changed files are parsed.
                if tuple(map(read_file, self._paths)) == self._last_valid:
                    self._last_warning = ""
                    return None
                current = self._read()
            except UnusableFile as error:
                if str(error) != self._last_warning:
                    self._last_warning = str(error)
                    logger.warning("TLS keeps using the previous files: %s", error)
                return None
            self._last_valid, self._last_warning = current, ""
            logger.info("TLS uses the new files for new connections")
            return self.configuration()

    def _read(self) -> tuple[bytes, ...]:
        pair = read_pair(self._files.cert, self._files.key)
        return (*pair, read_certificates(self._files.ca)) if self._files.ca else pair
