"""Server credentials from TensorFlow Serving's SSLConfig file, which contains PEM text."""

import ssl
import tempfile
from pathlib import Path

import grpc
from google.protobuf import text_format

from rpc.errors import UnusableFile
from tfserving_subset.v1.ssl_config_pb2 import SSLConfig


def credentials(file: Path) -> grpc.ServerCredentials:
    """Return the credentials of the server port.

    Raises:
        UnusableFile: The file cannot be read, or a part of it is wrong. The message names the file
            and the part, and never contains text of the file, which may be a private key.
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
    """Raise UnusableFile for PEM text that cannot be used. gRPC would only fail to listen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # OpenSSL reads a key from files only. Only the owner can read this temporary file.
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
