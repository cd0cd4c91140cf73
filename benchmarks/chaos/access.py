"""Callers with wrong certificates and wrong tokens: refused, and logged without the secret."""

import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from benchmarks.chaos.asking import RETRIEVE, users
from benchmarks.chaos.checks import Check, at_least, at_most, holds
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.outcomes import OK, UNAUTHENTICATED, UNAVAILABLE
from benchmarks.chaos.processes import Server, wait_until

_NAME = "localhost"
_ANSWER_S = 5.0
#: The file of tokens is looked at once a second.
_REVOKED_WITHIN_S = 3.0
_MOMENT_S = 2.0


def certificates(lab: Lab) -> Iterator[Check]:
    """Mutual TLS, and callers whose certificate is wrong."""
    import trustme

    directory = lab.work / "certificates"
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
        "a good certificate": (ours, _pair(authority.issue_cert(_NAME))),
        "none": (ours, None),
        "an expired one": (ours, _pair(expired)),
        "one that it signed itself": (ours, _self_signed()),
        "one of another authority": (ours, _pair(other.issue_cert(_NAME))),
        "a good one, which trusts another authority than the server's": (
            theirs,
            _pair(authority.issue_cert(_NAME)),
        ),
        # They are not refused because nobody is there any more.
        "a good certificate, after all of those": (ours, _pair(authority.issue_cert(_NAME))),
    }
    with (
        lab.model_server("certificates-models") as models,
        lab.service("certificates", models, arguments=flags) as service,
    ):
        body = users(lab.catalogue)[0].data
        for name, (trusted, shown) in callers.items():
            key, chain = shown or (None, None)
            credentials = grpc.ssl_channel_credentials(trusted, key, chain)
            port = service.address.rpartition(":")[2]
            with grpc.secure_channel(f"{_NAME}:{port}", credentials) as channel:
                code = _asked(channel, body)
            wanted = OK if name.startswith("a good certificate") else UNAVAILABLE
            yield holds(f"a caller with {name}", code == wanted, code, wanted)
        with grpc.insecure_channel(service.address) as channel:
            code = _asked(channel, body)
        yield holds("a caller without TLS", code == UNAVAILABLE, code, UNAVAILABLE)
        refusals = service.said().count("Handshake failed")
        yield at_least("refusals in the log", refusals, 1, "lines")
        keys = [pair[0] for _, pair in callers.values() if pair]
        keys.append(server.private_key_pem.bytes())
        yield _unsaid([service], [one.decode().splitlines()[1] for one in keys])


def tokens(lab: Lab) -> Iterator[Check]:
    """Tokens that are missing, wrong, and taken out of the file."""
    directory = lab.work / "tokens"
    directory.mkdir(exist_ok=True)
    file = directory / "tokens.toml"
    kept, revoked, wrong = (secrets.token_urlsafe(32) for _ in range(3))
    _write_tokens(file, kept=kept, revoked=revoked)
    with (
        lab.model_server("tokens-models") as models,
        lab.service("tokens", models, arguments=("--tokens", str(file))) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        body = users(lab.catalogue)[0].data
        for name, token, wanted in (
            ("a good token", kept, OK),
            ("no token", "", UNAUTHENTICATED),
            ("a wrong token", wrong, UNAUTHENTICATED),
            ("a token that is to be taken out", revoked, OK),
        ):
            code = _asked(channel, body, token)
            yield holds(f"a caller with {name}", code == wanted, code, wanted)
        _write_tokens(file, kept=kept)
        took_s = wait_until(
            lambda: _asked(channel, body, revoked) == UNAUTHENTICATED, 30, "UNAUTHENTICATED"
        )
        yield at_most(
            "UNAUTHENTICATED, once it is taken out, after", took_s, _REVOKED_WITHIN_S, "s", 2
        )
        code = _asked(channel, body, kept)
        yield holds("a caller whose token stays", code == OK, code, OK)
        time.sleep(_MOMENT_S)  # the log says it once a second
        said = "refused" in service.said()
        yield holds("the log says that calls were refused", said, "yes" if said else "no", "yes")
        yield _unsaid([service], [kept, revoked, wrong])


def _asked(channel: grpc.Channel, body: bytes, token: str = "") -> str:
    """The name of the status."""
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RETRIEVE)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        ask(body, timeout=_ANSWER_S, metadata=metadata)
    except grpc.RpcError as error:
        return str(error.code().name)
    return OK


def _unsaid(servers: Sequence[Server], secret: Sequence[str]) -> Check:
    found = sum(one in server.said() for server in servers for one in secret)
    return holds("secrets in the log", not found, f"{found}", "0")


def _pair(certificate: object) -> tuple[bytes, bytes]:
    """Private key and chain, in PEM."""
    import trustme

    assert isinstance(certificate, trustme.LeafCert)
    chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
    return certificate.private_key_pem.bytes(), chain


def _self_signed() -> tuple[bytes, bytes]:
    """Private key and certificate, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(pem)


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
