"""TLS as TensorFlow Serving is given it: the PEM texts in one file."""

import ssl
import tempfile
from pathlib import Path

import grpc
from google.protobuf import text_format

from tfserving_subset.v1.ssl_config_pb2 import SSLConfig


class TlsError(ValueError):
    """The file cannot be read, or what it holds makes no TLS."""


def credentials(file: Path) -> grpc.ServerCredentials:
    """What to listen with.

    Args:
        file: an SSLConfig in protobuf's text format.

    Raises:
        TlsError: it names the file, and which part of it is wrong; never what is in it.
    """
    config = _parsed(file)
    for name in ("server_key", "server_cert", *(["custom_ca"] if config.client_verify else [])):
        if not getattr(config, name):
            raise TlsError(f"{file}: {name} is missing")
    _check(file, config)
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )


def _parsed(file: Path) -> SSLConfig:
    try:
        return text_format.Parse(file.read_text(encoding="utf-8"), SSLConfig())
    except (OSError, UnicodeDecodeError) as error:
        raise TlsError(f"{file} cannot be read: {error}") from error
    except text_format.ParseError as error:
        # Its message may quote the line, and that may be a line of the key.
        where = f", line {error.GetLine()}" if error.GetLine() else ""
        raise TlsError(f"{file} is no SSLConfig in protobuf's text format{where}") from None


def _check(file: Path, config: SSLConfig) -> None:
    """gRPC itself says only that it cannot listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # By file only; this one is for the owner alone, and gone at the end of the block.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as pair:
            pair.write(f"{config.server_key}\n{config.server_cert}\n")
            pair.flush()
            # Of an encrypted key OpenSSL would ask the terminal for the password.
            context.load_cert_chain(pair.name, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"{file}: server_key and server_cert are no pair: {error}") from error
    try:
        if config.custom_ca:
            # Comments may be in any language.
            context.load_verify_locations(
                cadata=config.custom_ca.encode("ascii", "replace").decode("ascii")
            )
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"{file}: custom_ca is no certificate: {error}") from error
