"""The channel to the model servers: where they are, which of them is asked, what is asked again.

All of it is gRPC's own: name resolution, ``round_robin``, retries with jitter and a budget. See the
service config in https://github.com/grpc/grpc/blob/master/doc/service_config.md and proposal A6.
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
            # A Predict changes nothing, so it may be asked twice; gRPC waits a random time up to
            # these, and no attempt outlives the deadline. NOT_FOUND: this one has no version
            # loaded, another may.
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "NOT_FOUND"],
            },
        }
    ],
    # The budget: a failure costs one token and a success gives one back; with half of them or less
    # nothing is asked again. So one bad server of two is made up for, and where all are bad each is
    # soon asked once.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 1.0},
}
_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # Without the name's TXT record, which only holds a service config.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The largest Predict that can be sent again: 256 histories of 1,000 ids.
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    # Back within a second or so of the server's return; gRPC adds jitter.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # A machine that is gone without a word: asked after 10 s, given up 2 s later. Only while
    # something is asked; servers allow that.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
)


def open_channel(
    addresses: str, credentials: grpc.ChannelCredentials | None = None, server_name: str = ""
) -> grpc.aio.Channel:
    """A channel to what :func:`rpc.addresses.grpc_target` understands. Inside a running event loop.

    With credentials, over TLS; ``server_name``: in the certificate, if not the address's.
    """
    options: list[tuple[str, str | int]] = [*_OPTIONS]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    if credentials:
        return grpc.aio.secure_channel(grpc_target(addresses), credentials, options)
    return grpc.aio.insecure_channel(grpc_target(addresses), options)
