"""Where the model servers are."""

import ipaddress


def target(addresses: str) -> str:
    """gRPC's name for ``HOST:PORT``, or for several separated by commas.

    A host name stands for all of its addresses. Several must be IP addresses of one family, since
    gRPC resolves one name a channel.

    Raises:
        ValueError: they are not.
    """
    if "," not in addresses:
        return addresses
    every = [one.strip() for one in addresses.split(",")]
    try:
        families = {ipaddress.ip_address(_host(one)).version for one in every}
    except ValueError:
        families = set()
    if len(families) != 1:
        raise ValueError(
            "several model servers are given by IP addresses of one family, IP:PORT,IP:PORT; "
            f"or by one host name that has all of their addresses; not as {addresses!r}"
        )
    return f"ipv{families.pop()}:{','.join(every)}"


def _host(address: str) -> str:
    """Of ``HOST:PORT``; ValueError where there is no port."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(address)
    return host.removeprefix("[").removesuffix("]")
