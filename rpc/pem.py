"""Reads certificates and private keys in PEM. Errors name the file, but never show its content."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from rpc.errors import UnusableFile


@dataclass(frozen=True)
class TlsFiles:
    """The paths of the PEM files for one side of a connection. An empty path means no file.

    Attributes:
        cert: The certificate chain to present.
        key: The private key of ``cert``.
        ca: The authorities to trust. If this is set, a server requires a certificate from each
            caller, and a channel uses TLS.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""


def read_file(path: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        UnusableFile: The file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnusableFile(f"{path}: {error.strerror}") from error


def read_certificates(path: str) -> bytes:
    """Return the content of a file, which must hold at least one certificate.

    Raises:
        UnusableFile: The file cannot be read, or holds no certificate.
    """
    data = read_file(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=data.decode("ascii"))
    except (ValueError, ssl.SSLError) as error:
        raise UnusableFile(f"{path}: the file holds no certificate in PEM") from error
    return data


def read_pair(certificate_path: str, key_path: str) -> tuple[bytes, bytes]:
    """Return a certificate chain and its private key.

    Raises:
        UnusableFile: A file cannot be read, the key does not belong to the certificate, or a file
            changed while it was being checked.
    """
    pair = read_certificates(certificate_path), read_file(key_path)
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate_path, key_path, password=""
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"{key_path}: this is not the key of the certificate in {certificate_path}"
        else:
            message = f"{key_path}: the file holds no private key in PEM without a password"
        raise UnusableFile(message) from error
    except OSError as error:
        raise UnusableFile(f"{certificate_path}, {key_path}: {error.strerror}") from error
    if pair != (read_file(certificate_path), read_file(key_path)):
        raise UnusableFile(f"{certificate_path}, {key_path}: the files changed while being read")
    return pair
