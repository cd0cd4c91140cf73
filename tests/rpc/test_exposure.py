"""A server may listen without protection on loopback addresses only."""

import pytest

from rpc import addresses
from rpc.errors import StartError


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]")),
        *((host, False) for host in ("0.0.0.0", "::", "[::]", "192.0.2.1", "2001:db8::1")),
    ],
)
def test_loopback_addresses_are_recognized(host: str, loopback: bool) -> None:
    assert addresses.is_loopback(host) is loopback


def _check(host: str, *protection: str) -> None:
    flags = {name: name in protection for name in ("tls", "client_certificates", "tokens")}
    addresses.check_exposure(host, 50051, **flags)


def test_unknown_host_is_an_error() -> None:
    with pytest.raises(StartError, match=r"cannot listen on nowhere\.invalid:50051: "):
        _check("nowhere.invalid")


def test_loopback_address_needs_no_protection(caplog: pytest.LogCaptureFixture) -> None:
    _check("127.0.0.1")
    assert not caplog.records


def test_public_address_without_protection_is_refused() -> None:
    with pytest.raises(StartError) as raised:
        _check("0.0.0.0")
    message = str(raised.value)
    assert message.startswith("--host 0.0.0.0 can be reached from other machines")
    assert "--tls-cert and --tls-key, or --tokens, or else --insecure" in message


@pytest.mark.parametrize(
    ("protection", "warning"),
    [
        (("tls",), "anyone who reaches 0.0.0.0 can call the service"),
        (("tokens",), "there is no TLS"),
        (("tls", "client_certificates"), None),
        (("tls", "tokens"), None),
    ],
)
def test_gap_in_the_protection_is_a_warning(
    protection: tuple[str, ...], warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    _check("0.0.0.0", *protection)
    messages = [record.getMessage().split(":")[0] for record in caplog.records]
    assert messages == ([warning] if warning else [])
