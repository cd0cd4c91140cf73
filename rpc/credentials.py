"""What a caller shows the service, and how it knows the service: options of ask, health, bench."""

import argparse
import os
from dataclasses import dataclass, field

from query_service.errors import UnusableFile
from rpc.pem import read_certificates, read_file, read_pair

#: Option, variable, help. The variables differ from those of `serve`: both may be set in a
#: container that serves, and asks itself for its health.
_OPTIONS = (
    ("--token-file", "SHORTLIST_TOKEN_FILE", "a file with the token to show"),
    ("--tls-ca", "SHORTLIST_CLIENT_TLS_CA", "certificates to know the service by; switches TLS on"),
    ("--tls-cert", "SHORTLIST_CLIENT_TLS_CERT", "a certificate to show"),
    ("--tls-key", "SHORTLIST_CLIENT_TLS_KEY", "its private key"),
)
_NAME = "SHORTLIST_CLIENT_TLS_NAME"


@dataclass(frozen=True)
class Credentials:
    """PEM, and a token. With ``root_certificates`` the channel has TLS, without it none.

    ``server_name`` is the name in the service's certificate, where that is not the address.
    """

    token: str | None = field(default=None, repr=False)
    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None


def add_options(command: argparse.ArgumentParser) -> None:
    """The options, each of which has a variable as well."""
    for option, variable, text in _OPTIONS:
        command.add_argument(
            option,
            default=os.environ.get(variable, ""),
            metavar="FILE",
            help=f"{text} (variable: {variable})",
        )
    command.add_argument(
        "--tls-name",
        default=os.environ.get(_NAME, ""),
        metavar="NAME",
        help=f"the name in the service's certificate, if not the address (variable: {_NAME})",
    )


def read(parsed: argparse.Namespace) -> Credentials:
    """What the options name.

    Raises:
        UnusableFile: a file cannot be used, or one is missing.
    """
    token = None
    if parsed.token_file:
        token = read_file(parsed.token_file).decode(errors="replace").strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise UnusableFile(f"{parsed.token_file}: there is no token in it, or more than one")
    if not parsed.tls_ca:
        if parsed.tls_cert or parsed.tls_key or parsed.tls_name:
            raise UnusableFile("--tls-cert, --tls-key and --tls-name need --tls-ca")
        return Credentials(token)
    chain = key = None
    if bool(parsed.tls_cert) != bool(parsed.tls_key):
        raise UnusableFile("--tls-cert and --tls-key go together")
    if parsed.tls_cert:
        chain, key = read_pair(parsed.tls_cert, parsed.tls_key)
    roots = read_certificates(parsed.tls_ca)
    return Credentials(token, roots, chain, key, parsed.tls_name or None)
