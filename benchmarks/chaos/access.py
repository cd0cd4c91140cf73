"""Scenarios: callers with invalid certificates or tokens are refused, and no secret is logged."""

import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import trustme

from benchmarks.chaos.checks import Check, at_least, at_most, equal
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.outcomes import OK, UNAUTHENTICATED, UNAVAILABLE
from benchmarks.chaos.requests import for_users
from benchmarks.serving import method
from query_service.load_test.requests import RETRIEVE
from rpc.tokens import digest
from tools.processes import Server
from tools.waiting import until

_NAME = "localhost"
_ANSWER_S = 5.0
#: The service rereads the token file once a second.
_REVOKED_WITHIN_S = 3.0
#: The service logs refused calls once a second.
_LOGGED_WITHIN_S = 2.0


def certificates(env: Environment) -> Iterator[Check]:
    """Mutual TLS, and callers with an invalid certificate."""
    directory = env.work / "certificates"
    directory.mkdir(exist_ok=True)
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert(_NAME)
    chain, key, trusted = (directory / name for name in ("server.pem", "server.key", "ca.pem"))
    server.cert_chain_pems[0].write_to_path(str(chain))
    server.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    authority.cert_pem.write_to_path(str(trusted))
    flags = ("--tls-cert", str(chain), "--tls-key", str(key), "--tls-client-ca", str(trusted))
    ours, theirs = authority.cert_pem.bytes(), other.cert_pem.bytes()
    valid = _pair(authority.issue_cert(_NAME))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    callers = {
        "a valid certificate": (ours, valid),
        "no certificate": (ours, (None, None)),
        "an expired certificate": (ours, _pair(authority.issue_cert(_NAME, not_after=yesterday))),
        "a self-signed certificate": (ours, (other.private_key_pem.bytes(), theirs)),
        "a certificate of another authority": (ours, _pair(other.issue_cert(_NAME))),
        "a certificate, but no trust in the server's authority": (theirs, valid),
        # If this call succeeds, the earlier calls were refused because of their certificates.
        "a valid certificate, after all of those": (ours, valid),
    }
    with env.servers("certificates", *flags) as (_, service):
        body = for_users(env.known)[0].data
        port = service.address.rpartition(":")[2]
        for name, (roots, own) in callers.items():
            credentials = grpc.ssl_channel_credentials(roots, *own)
            with grpc.secure_channel(f"{_NAME}:{port}", credentials) as channel:
                code = _status(channel, body)
            expected = OK if name.startswith("a valid certificate") else UNAVAILABLE
            yield equal(f"a caller with {name}", code, expected)
        with grpc.insecure_channel(service.address) as channel:
            yield equal("a caller without TLS", _status(channel, body), UNAVAILABLE)
        refusals = service.output().count("Handshake failed")
        yield at_least("refusals in the log", refusals, 1, "lines")
        keys = [own[0] for _, own in callers.values() if own[0]] + [key.read_bytes()]
        yield _no_secrets(service, [pem.decode().splitlines()[1] for pem in keys])


def tokens(env: Environment) -> Iterator[Check]:
    """Tokens that are missing, wrong, or removed from the file."""
    directory = env.work / "tokens"
    directory.mkdir(exist_ok=True)
    file = directory / "tokens.toml"
    kept, revoked, wrong = (secrets.token_urlsafe(32) for _ in range(3))
    _write_tokens(file, kept=kept, revoked=revoked)
    with (
        env.servers("tokens", "--tokens", str(file)) as (_, service),
        grpc.insecure_channel(service.address) as channel,
    ):
        body = for_users(env.known)[0].data
        for name, token, expected in (
            ("a valid token", kept, OK),
            ("no token", "", UNAUTHENTICATED),
            ("a wrong token", wrong, UNAUTHENTICATED),
            ("a token that is removed later", revoked, OK),
        ):
            yield equal(f"a caller with {name}", _status(channel, body, token), expected)
        _write_tokens(file, kept=kept)
        took_s = until(
            lambda: _status(channel, body, revoked) == UNAUTHENTICATED,
            30,
            "a removed token is refused",
        )
        yield at_most("UNAUTHENTICATED after the removal", took_s, _REVOKED_WITHIN_S, "s", 2)
        yield equal("a caller whose token was kept", _status(channel, body, kept), OK)
        time.sleep(_LOGGED_WITHIN_S)
        yield equal("the log mentions refused calls", "refused" in service.output(), True)
        yield _no_secrets(service, [kept, revoked, wrong])


def _status(channel: grpc.Channel, body: bytes, token: str = "") -> str:
    """Send one Retrieve call; return the name of its status."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        method(channel, RETRIEVE)(body, timeout=_ANSWER_S, metadata=metadata)
    except grpc.RpcError as error:
        return str(error.code().name)
    return OK


def _no_secrets(server: Server, secrets: Sequence[str]) -> Check:
    return equal("secrets in the log", sum(secret in server.output() for secret in secrets), 0)


def _pair(certificate: trustme.LeafCert) -> tuple[bytes | None, bytes | None]:
    """Return the private key and the certificate chain in PEM format."""
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    return certificate.private_key_pem.bytes(), chain


def _write_tokens(path: Path, **named: str) -> None:
    lines = [f'[{name}]\ntoken_sha256 = "{digest(token).hex()}"\n' for name, token in named.items()]
    new = path.with_suffix(".new")
    new.write_text("".join(lines), encoding="utf-8")
    new.chmod(0o600)
    new.replace(path)
