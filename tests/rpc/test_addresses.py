"""Addresses are formatted for messages and for gRPC."""

import pytest

from rpc.addresses import grpc_target, host_port


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80"), ("a.b", "a.b:80")],
)
def test_ipv6_addresses_get_brackets(host: str, expected: str) -> None:
    assert host_port(host, 80) == expected


@pytest.mark.parametrize(
    ("addresses", "target"),
    [
        ("127.0.0.1:8500", "127.0.0.1:8500"),
        ("dns:///models:8500", "dns:///models:8500"),
        ("10.0.0.1:8500,10.0.0.2:8501", "ipv4:10.0.0.1:8500,10.0.0.2:8501"),
        ("[::1]:8500, [::2]:8500", "ipv6:[::1]:8500,[::2]:8500"),
    ],
)
def test_target_of_one_or_several_addresses(addresses: str, target: str) -> None:
    assert grpc_target(addresses) == target


@pytest.mark.parametrize("addresses", ["a:1,b:1", "10.0.0.1:1,[::1]:1", "10.0.0.1,10.0.0.2", "1,"])
def test_several_addresses_must_be_ip_addresses_of_one_family(addresses: str) -> None:
    with pytest.raises(ValueError, match="several addresses must be IP addresses of one family"):
        grpc_target(addresses)
