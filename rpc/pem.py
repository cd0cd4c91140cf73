"""Certificates and private keys in PEM files. The errors name the file, never what is in it."""

import ssl
from pathlib import Path

from query_service.errors import UnusableFile


def read_file(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        UnusableFile: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnusableFile(f"{path}: {error.strerror}") from error


def read_certificates(path: str) -> bytes:
    """One certificate or more.

    Raises:
        UnusableFile: it cannot be read, or holds none.
    """
    data = read_file(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=data.decode("ascii"))
    except (ValueError, ssl.SSLError) as error:
        raise UnusableFile(f"{path}: there is no certificate in PEM in it") from error
    return data


def read_pair(certificate_path: str, key_path: str) -> tuple[bytes, bytes]:
    """A certificate, with those that lead to its authority, and its private key.

    Raises:
        UnusableFile: one cannot be read, or they do not belong together; or they have changed
            meanwhile, so that what was checked is not what was read.
    """
    pair = read_certificates(certificate_path), read_file(key_path)
    try:
        # With a password it does not ask a terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate_path, key_path, password=""
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"{key_path}: not the key of the certificate in {certificate_path}"
        else:
            message = f"{key_path}: there is no private key in PEM without a password in it"
        raise UnusableFile(message) from error
    except OSError as error:
        raise UnusableFile(f"{certificate_path}, {key_path}: {error.strerror}") from error
    if pair != (read_file(certificate_path), read_file(key_path)):
        raise UnusableFile(f"{certificate_path}, {key_path}: changed while they were read")
    return pair
