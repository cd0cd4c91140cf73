"""Reads server credentials from an SSLConfig file, which contains PEM text."""

import ssl
import tempfile
from pathlib import Path

import grpc
from google.protobuf import text_format

from rpc.errors import UnusableFile
from tfserving_subset.v1.ssl_config_pb2 import SSLConfig


def credentials(file: Path) -> grpc.ServerCredentials:
    """Return the credentials for the server port.

    Raises:
        UnusableFile: The file cannot be read, or a part of it is invalid. The message names the
            file and the part. It never quotes the file, because the text may be a private key.
    """
    config = _parse(file)
    required = ["server_key", "server_cert"]
    if config.client_verify:
        required.append("custom_ca")
    for name in required:
        if not getattr(config, name):
            raise _unusable(file, f"{name} is missing")
    _check(file, config)
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )


def _unusable(file: Path, problem: str) -> UnusableFile:
    return UnusableFile(f"--ssl-config-file {file}: {problem}")


def _parse(file: Path) -> SSLConfig:
    try:
        return text_format.Parse(file.read_text(encoding="utf-8"), SSLConfig())
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(file, f"the file cannot be read: {error}") from error
    except text_format.ParseError as error:
        # The parser's message can quote a line, and that line may be part of a key.
        line = f", line {error.GetLine()}" if error.GetLine() else ""
        problem = f"the file is not an SSLConfig in protobuf text format{line}"
        raise _unusable(file, problem) from None


def _check(file: Path, config: SSLConfig) -> None:
    """Raise UnusableFile for invalid PEM text. gRPC would only report that it cannot listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # OpenSSL reads keys only from files. Only the owner can read this temporary file.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as pair:
            pair.write(f"{config.server_key}\n{config.server_cert}\n")
            pair.flush()
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(pair.name, password="")
    except (OSError, ValueError) as error:
        problem = f"server_key and server_cert are not a key and its certificate: {error}"
        raise _unusable(file, problem) from error
    try:
        if config.custom_ca:
            # Comments between the PEM blocks may contain any characters.
            authorities = config.custom_ca.encode("ascii", "replace").decode("ascii")
            context.load_verify_locations(cadata=authorities)
    except (OSError, ValueError) as error:
        raise _unusable(file, f"custom_ca is not a PEM certificate: {error}") from error
