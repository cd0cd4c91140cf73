"""Command-line options of clients: the token to send, and the certificates for TLS."""

import argparse
import os
from dataclasses import dataclass, field

from rpc.errors import UnusableFile
from rpc.pem import read_certificates, read_file, read_pair

#: Option, environment variable, metavar, help. The variables are not those of the server: both may
#: be set in a container whose health check calls the server in it.
_OPTIONS = (
    ("--token-file", "SHORTLIST_TOKEN_FILE", "FILE", "Send the token in this file."),
    (
        *("--tls-ca", "SHORTLIST_CLIENT_TLS_CA", "FILE"),
        "Use TLS, and trust the certificate authorities in this PEM file.",
    ),
    (
        *("--tls-cert", "SHORTLIST_CLIENT_TLS_CERT", "FILE"),
        "Present the certificate in this PEM file to the service.",
    ),
    (
        *("--tls-key", "SHORTLIST_CLIENT_TLS_KEY", "FILE"),
        "The private key of --tls-cert, a PEM file.",
    ),
    (
        *("--tls-name", "SHORTLIST_CLIENT_TLS_NAME", "NAME"),
        "Expect this name in the service's certificate instead of the host in --address.",
    ),
)


@dataclass(frozen=True)
class Credentials:
    """A token and PEM data. A channel uses TLS if there are ``root_certificates``.

    ``server_name`` is the name in the service's certificate if it is not the host of the address.
    """

    token: str | None = field(default=None, repr=False)
    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options to a command. Each takes its default from an environment variable."""
    for option, variable, metavar, text in _OPTIONS:
        command.add_argument(
            option,
            default=os.environ.get(variable, ""),
            metavar=metavar,
            help=f"{text} (environment: {variable})",
        )


def read(parsed: argparse.Namespace) -> Credentials:
    """Read the files that the options name.

    Raises:
        UnusableFile: a file cannot be used, or an option that belongs to it is missing.
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
