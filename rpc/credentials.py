"""The command-line options, credentials and channels of clients."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rpc.errors import UnusableFile
from rpc.pem import read_certificates, read_file, read_pair

if TYPE_CHECKING:
    import grpc

#: The name, environment variable and help of each option. A client's variables differ from the
#: server's, because both can be set in a container whose health check calls its own server.
_OPTIONS = (
    ("--token-file", "SHORTLIST_TOKEN_FILE", "Send the token in this file."),
    (
        "--tls-ca",
        "SHORTLIST_CLIENT_TLS_CA",
        "Use TLS, and trust the authorities in this PEM file.",
    ),
    ("--tls-cert", "SHORTLIST_CLIENT_TLS_CERT", "Present the certificate in this PEM file."),
    ("--tls-key", "SHORTLIST_CLIENT_TLS_KEY", "The private key for --tls-cert, in a PEM file."),
    (
        "--tls-name",
        "SHORTLIST_CLIENT_TLS_NAME",
        "Expect this name in the service's certificate instead of the host in --address.",
    ),
)


@dataclass(frozen=True)
class Credentials:
    """The token and the TLS data with which a client calls the service.

    Attributes:
        token: The token to send with each call; None to send none.
        root_certificates: The authorities to trust, in PEM; None to connect without TLS.
        certificate_chain: The certificate to present, in PEM.
        private_key: The private key of ``certificate_chain``, in PEM.
        server_name: The name in the service's certificate, if it differs from the host that the
            client connects to.
    """

    token: str | None = field(default=None, repr=False)
    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options to a command. Environment variables set their defaults."""
    for option, variable, text in _OPTIONS:
        command.add_argument(
            option,
            default=os.environ.get(variable, ""),
            metavar="NAME" if option == "--tls-name" else "FILE",
            help=f"{text} (environment: {variable})",
        )


def read(parsed: argparse.Namespace) -> Credentials:
    """Return the credentials in the files that the options name.

    Raises:
        UnusableFile: A file cannot be used, or an option is given without one that it requires.
    """
    token = None
    if parsed.token_file:
        token = read_file(parsed.token_file).decode(errors="replace").strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise UnusableFile(f"{parsed.token_file}: the file must hold exactly one token")
    if not parsed.tls_ca:
        if parsed.tls_cert or parsed.tls_key or parsed.tls_name:
            raise UnusableFile("--tls-cert, --tls-key and --tls-name need --tls-ca")
        return Credentials(token)
    chain = key = None
    if bool(parsed.tls_cert) != bool(parsed.tls_key):
        raise UnusableFile("--tls-cert and --tls-key must be given together")
    if parsed.tls_cert:
        chain, key = read_pair(parsed.tls_cert, parsed.tls_key)
    roots = read_certificates(parsed.tls_ca)
    return Credentials(token, roots, chain, key, parsed.tls_name or None)


def open_channel(
    address: str, credentials: Credentials, options: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """Return a channel to ``HOST:PORT``, with TLS if the credentials have root certificates."""
    # Commands parse their options before they load gRPC.
    import grpc

    if credentials.root_certificates is None:
        return grpc.insecure_channel(address, options)
    if credentials.server_name:
        options = [*options, ("grpc.ssl_target_name_override", credentials.server_name)]
    tls = grpc.ssl_channel_credentials(
        credentials.root_certificates, credentials.private_key, credentials.certificate_chain
    )
    return grpc.secure_channel(address, tls, options)


def call_metadata(credentials: Credentials) -> tuple[tuple[str, str], ...]:
    """Return the metadata to send with each call: the token, or nothing if there is none."""
    return (("authorization", f"Bearer {credentials.token}"),) if credentials.token else ()
