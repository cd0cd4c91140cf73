"""The gRPC channel to the model servers.

gRPC itself resolves names, balances the load round robin, and retries with jitter and a budget. See
https://github.com/grpc/grpc/blob/master/doc/service_config.md and gRPC proposal A6.
"""

import json

import grpc
import grpc.aio

from rpc.addresses import grpc_target

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            # A Predict is read-only, so it may be sent again. gRPC waits for a random time up to
            # the backoff, and no attempt outlives the deadline. A server answers NOT_FOUND while
            # it has no version loaded; another server may have one.
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "NOT_FOUND"],
            },
        }
    ],
    # The retry budget. A failure costs one token, a success returns one, and nothing is retried
    # while at most half of the tokens are left. Retries therefore cover the failure of one server
    # out of two, but soon stop if all servers fail.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 1.0},
}
_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # Do not look up the TXT record of the name, whose only use would be a service config.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The largest Predict that can be retried: 256 histories of 1,000 ids.
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    # Reconnect within about a second of the server's return; gRPC adds jitter.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Detect a machine that vanished: ping after 10 s of silence, give up 2 s later. Pings are sent
    # only during calls, because servers reject other pings.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
)


def open_channel(
    addresses: str, credentials: grpc.ChannelCredentials | None = None, server_name: str = ""
) -> grpc.aio.Channel:
    """Open a channel to one or more addresses, as :func:`rpc.addresses.grpc_target` accepts them.

    Must be called in a running event loop. The channel uses TLS if there are ``credentials``;
    ``server_name`` is the name in the server's certificate if it differs from the address.
    """
    options: list[tuple[str, str | int]] = [*_OPTIONS]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    if credentials:
        return grpc.aio.secure_channel(grpc_target(addresses), credentials, options)
    return grpc.aio.insecure_channel(grpc_target(addresses), options)
