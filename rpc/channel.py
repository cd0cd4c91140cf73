"""Opens gRPC channels to our services, for clients."""

from collections.abc import Sequence
from typing import Any

import grpc

from rpc.credentials import Credentials


def open_channel(
    address: str, credentials: Credentials, options: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """Return a channel to ``HOST:PORT``: over TLS if the credentials have root certificates."""
    if credentials.root_certificates is None:
        return grpc.insecure_channel(address, options)
    if credentials.server_name:
        options = [*options, ("grpc.ssl_target_name_override", credentials.server_name)]
    tls = grpc.ssl_channel_credentials(
        credentials.root_certificates, credentials.private_key, credentials.certificate_chain
    )
    return grpc.secure_channel(address, tls, options)


def call_metadata(credentials: Credentials) -> tuple[tuple[str, str], ...]:
    """Return the metadata to send with each call: the token, if there is one."""
    return (("authorization", f"Bearer {credentials.token}"),) if credentials.token else ()
