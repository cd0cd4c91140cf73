"""Host and port as text, and several addresses as one gRPC target."""

import ipaddress


def host_port(host: str, port: int) -> str:
    """Return ``host:port``, with an IPv6 address in brackets: ``[::1]:80``."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def grpc_target(addresses: str) -> str:
    """Return the name by which gRPC resolves ``HOST:PORT``, or several addresses and commas.

    gRPC resolves one name per channel. A host name stands for all of its IP addresses, so several
    hosts are only possible as IP addresses of one family.

    Raises:
        ValueError: several addresses that are not ``IP:PORT`` of one family.
    """
    if "," not in addresses:
        return addresses
    each = [one.strip() for one in addresses.split(",")]
    try:
        families = {ipaddress.ip_address(_host(one)).version for one in each}
    except ValueError:
        families = set()
    if len(families) != 1:
        raise ValueError(
            f"several addresses must be IP addresses of one family, IP:PORT,IP:PORT, not "
            f"{addresses!r}; or use one host name that resolves to all of them"
        )
    return f"ipv{families.pop()}:{','.join(each)}"


def _host(address: str) -> str:
    """Return the host of ``HOST:PORT``. Raises ValueError if there is no port."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(address)
    return host.removeprefix("[").removesuffix("]")
