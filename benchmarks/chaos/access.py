"""Callers with invalid certificates and tokens are refused, and no secret is logged."""

import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from benchmarks.chaos.checks import Check, at_least, at_most, expect
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.outcomes import OK, UNAUTHENTICATED, UNAVAILABLE
from benchmarks.chaos.requests import for_users
from query_service.load_test.requests import RETRIEVE
from tools.processes import Server
from tools.waiting import until

_NAME = "localhost"
_ANSWER_S = 5.0
#: The service reads the token file once a second.
_REVOKED_WITHIN_S = 3.0
#: The service logs refused calls once a second.
_LOGGED_WITHIN_S = 2.0


def certificates(env: Environment) -> Iterator[Check]:
    """Mutual TLS, and callers with an invalid certificate."""
    import trustme

    directory = env.work / "certificates"
    directory.mkdir(exist_ok=True)
    authority, other = trustme.CA(), trustme.CA()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    server = authority.issue_cert(_NAME)
    _write(directory / "server.pem", *server.cert_chain_pems)
    _write(directory / "server.key", server.private_key_pem)
    _write(directory / "ca.pem", authority.cert_pem)
    flags = ["--tls-cert", str(directory / "server.pem")]
    flags += ["--tls-key", str(directory / "server.key")]
    flags += ["--tls-client-ca", str(directory / "ca.pem")]
    ours, theirs = authority.cert_pem.bytes(), other.cert_pem.bytes()
    expired = authority.issue_cert(_NAME, not_after=yesterday)
    callers = {
        "a valid certificate": (ours, _pair(authority.issue_cert(_NAME))),
        "no certificate": (ours, None),
        "an expired certificate": (ours, _pair(expired)),
        "a self-signed certificate": (ours, (other.private_key_pem.bytes(), theirs)),
        "a certificate of another authority": (ours, _pair(other.issue_cert(_NAME))),
        "a certificate, but no trust in the server's authority": (
            theirs,
            _pair(authority.issue_cert(_NAME)),
        ),
        # Shows that the service still answers, so that it refused the others for their certificate.
        "a valid certificate, after all of those": (ours, _pair(authority.issue_cert(_NAME))),
    }
    with (
        env.model_server("certificates-models") as models,
        env.service("certificates", models, options=flags) as service,
    ):
        body = for_users(env.catalogue)[0].data
        for name, (trusted, own) in callers.items():
            key, chain = own or (None, None)
            credentials = grpc.ssl_channel_credentials(trusted, key, chain)
            port = service.address.rpartition(":")[2]
            with grpc.secure_channel(f"{_NAME}:{port}", credentials) as channel:
                code = _status(channel, body)
            expected = OK if name.startswith("a valid certificate") else UNAVAILABLE
            yield expect(f"a caller with {name}", code == expected, code, expected)
        with grpc.insecure_channel(service.address) as channel:
            code = _status(channel, body)
        yield expect("a caller without TLS", code == UNAVAILABLE, code, UNAVAILABLE)
        refusals = service.output().count("Handshake failed")
        yield at_least("refusals in the log", refusals, 1, "lines")
        keys = [pair[0] for _, pair in callers.values() if pair]
        keys.append(server.private_key_pem.bytes())
        yield _no_secrets(service, [one.decode().splitlines()[1] for one in keys])


def tokens(env: Environment) -> Iterator[Check]:
    """Tokens that are missing, wrong, or removed from the file."""
    directory = env.work / "tokens"
    directory.mkdir(exist_ok=True)
    file = directory / "tokens.toml"
    kept, revoked, wrong = (secrets.token_urlsafe(32) for _ in range(3))
    _write_tokens(file, kept=kept, revoked=revoked)
    with (
        env.model_server("tokens-models") as models,
        env.service("tokens", models, options=("--tokens", str(file))) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        body = for_users(env.catalogue)[0].data
        for name, token, expected in (
            ("a valid token", kept, OK),
            ("no token", "", UNAUTHENTICATED),
            ("a wrong token", wrong, UNAUTHENTICATED),
            ("a token that is removed later", revoked, OK),
        ):
            code = _status(channel, body, token)
            yield expect(f"a caller with {name}", code == expected, code, expected)
        _write_tokens(file, kept=kept)
        took_s = until(
            lambda: _status(channel, body, revoked) == UNAUTHENTICATED,
            30,
            "a removed token is refused",
        )
        yield at_most("UNAUTHENTICATED after the removal", took_s, _REVOKED_WITHIN_S, "s", 2)
        code = _status(channel, body, kept)
        yield expect("a caller whose token was kept", code == OK, code, OK)
        time.sleep(_LOGGED_WITHIN_S)
        logged = "refused" in service.output()
        yield expect("the log mentions refused calls", logged, "yes" if logged else "no", "yes")
        yield _no_secrets(service, [kept, revoked, wrong])


def _status(channel: grpc.Channel, body: bytes, token: str = "") -> str:
    """Return the name of the status of a call."""
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RETRIEVE)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        ask(body, timeout=_ANSWER_S, metadata=metadata)
    except grpc.RpcError as error:
        return str(error.code().name)
    return OK


def _no_secrets(server: Server, secrets: Sequence[str]) -> Check:
    found = sum(secret in server.output() for secret in secrets)
    return expect("secrets in the log", not found, f"{found}", "0")


def _pair(certificate: object) -> tuple[bytes, bytes]:
    """Return private key and certificate chain, in PEM."""
    import trustme

    assert isinstance(certificate, trustme.LeafCert)
    chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
    return certificate.private_key_pem.bytes(), chain


def _write(path: Path, *blobs: object) -> None:
    path.write_bytes(b"".join(one.bytes() for one in blobs))  # type: ignore[attr-defined]
    path.chmod(0o600)


def _write_tokens(path: Path, **named: str) -> None:
    digests = {name: hashlib.sha256(token.encode()).hexdigest() for name, token in named.items()}
    lines = [f'[{name}]\ntoken_sha256 = "{digest}"\n' for name, digest in digests.items()]
    new = path.with_suffix(".new")
    new.write_text("".join(lines), encoding="utf-8")
    new.chmod(0o600)
    new.replace(path)
