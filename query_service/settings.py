"""The settings of the service.

Each setting is a flag of ``serve`` and an environment variable, such as ``--model-server`` and
SHORTLIST_MODEL_SERVER.
"""

from dataclasses import dataclass

from config_fields import Validated, setting
from query_service.stores import FORMS
from rpc.addresses import grpc_target
from rpc.pem import TlsFiles
from serving_contract import MAX_K

TRANSPORTS = ("auto", "aio", "fast")
#: The transports by their earlier names, which --runtime still accepts.
_RUNTIME_TRANSPORTS = {"": "auto", "core": "fast", "aio": "aio"}
_MAX_PORT = 65_535


@dataclass(frozen=True)
class Settings(Validated):
    """The validated settings. An invalid value raises ValueError, which names the flag."""

    host: str = setting("127.0.0.1", "Listen on this address.", required=True)
    port: int = setting(
        50051, "Listen on this port. 0 picks a free one and prints it.", low=0, high=_MAX_PORT
    )
    model_server: str = setting(
        "127.0.0.1:8500",
        "HOST:PORT of TensorFlow Serving. To use several servers, give a host name that resolves "
        "to all of them, or IP:PORT,IP:PORT.",
        required=True,
    )
    model: str = setting(
        "retrieval",
        "Name of the model on the model server: retrieval (ScaNN) or retrieval_exact.",
        required=True,
    )
    seen_store: str = setting(
        "none",
        f"Where the items that users have seen are stored: {FORMS}.",
    )
    timeout_s: float = setting(
        1.0, "Maximum duration of a request in seconds, even if its deadline is later.", above=0
    )
    default_candidates: int = setting(
        100, "Number of candidates to return if a request sets max_candidates to 0.", low=1
    )
    max_candidates: int = setting(
        1000, "Maximum number of candidates that a request may ask for.", low=1, high=MAX_K
    )
    unknown_user: str = setting(
        "popularity",
        "How to answer for a user whom the model does not know: popularity returns the most "
        "popular items, not-found returns the status NOT_FOUND.",
        choices=("popularity", "not-found"),
    )
    fallback: str = setting(
        "none",
        "How to answer while the model server is unavailable: popular returns the most popular "
        "items, none returns the status UNAVAILABLE.",
        choices=("none", "popular"),
    )
    max_concurrent_requests: int = setting(
        1000,
        "Refuse further requests with RESOURCE_EXHAUSTED while a worker has this many in flight.",
        low=1,
    )
    lame_duck_s: float = setting(
        0.0,
        "Keep answering for this many seconds after shutdown begins, while health checks already "
        "report NOT_SERVING, so that load balancers stop sending traffic.",
        low=0,
    )
    grace_s: float = setting(
        10.0,
        "After --lame-duck-s seconds, wait at most this many more for requests in flight.",
        low=0,
    )
    cache_size: int = setting(
        0, "Number of model server answers to keep in a cache. 0 switches the cache off.", low=0
    )
    cache_age_s: float = setting(60.0, "Maximum age of a cached answer in seconds.", above=0)
    transport: str = setting(
        "auto",
        "The gRPC server to use: fast uses grpcio's private API; aio is grpc.aio, which "
        "handles about half the request rate; auto chooses fast if it has been tested with the "
        "installed grpcio, else aio.",
        choices=TRANSPORTS,
    )
    runtime: str = setting(
        "",
        "The earlier name of --transport, used if that is auto: core means fast, aio means aio.",
        choices=tuple(_RUNTIME_TRANSPORTS),
    )
    workers: int = setting(
        1, "Number of worker processes that share the port. auto starts one per CPU.", low=1
    )
    tls_cert: str = setting(
        "", "Serve over TLS with the certificate in this PEM file. Needs --tls-key."
    )
    tls_key: str = setting("", "The private key for --tls-cert, in a PEM file.")
    tls_client_ca: str = setting(
        "", "Require callers to present a certificate from an authority in this PEM file."
    )
    tokens: str = setting("", "Require callers to send one of the tokens in this TOML file.")
    insecure: bool = setting(
        False, "Listen on a public address even without TLS and without tokens."
    )
    model_server_ca: str = setting(
        "", "Use TLS to the model server, and trust the authorities in this PEM file."
    )
    model_server_cert: str = setting(
        "", "Present the certificate in this PEM file to the model server."
    )
    model_server_key: str = setting("", "The private key for --model-server-cert, in a PEM file.")
    model_server_name: str = setting(
        "", "Expect this name in the model server's certificate instead of its host."
    )
    metrics_host: str = setting(
        "127.0.0.1", "Serve Prometheus metrics on this address.", required=True
    )
    metrics_port: int = setting(
        0,
        "Serve Prometheus metrics on this port, at /metrics. 0 switches them off.",
        low=0,
        high=_MAX_PORT,
    )
    heartbeat_file: str = setting(
        "",
        "Touch this file about every second while the service is SERVING, so that a health check "
        "can test the age of the file instead of calling the service.",
    )
    log_format: str = setting(
        "text", "Format of the log on standard error: text or json.", choices=("text", "json")
    )
    slow_ms: float = setting(
        500.0,
        "Log requests that take this many milliseconds or longer. 0 switches this off.",
        low=0,
    )

    def __post_init__(self) -> None:
        """Check each value, and the flags that depend on one another."""
        super().__post_init__()
        try:
            grpc_target(self.model_server)
        except ValueError as error:
            raise ValueError(f"--model-server: {error}") from None
        if self.default_candidates > self.max_candidates:
            raise ValueError(
                f"--default-candidates must be at most --max-candidates, {self.max_candidates}, "
                f"not {self.default_candidates}"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key must be given together")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if bool(self.model_server_cert) != bool(self.model_server_key):
            raise ValueError("--model-server-cert and --model-server-key must be given together")
        if self.model_server_cert and not self.model_server_ca:
            raise ValueError("--model-server-cert needs --model-server-ca")
        if self.model_server_name and not self.model_server_ca:
            raise ValueError("--model-server-name needs --model-server-ca")

    @classmethod
    def display_name(cls, field_name: str) -> str:
        """Return the flag of a field."""
        return f"--{field_name.replace('_', '-')}"

    @property
    def chosen_transport(self) -> str:
        """The transport to use. ``runtime`` counts only if ``transport`` is auto."""
        if self.transport == "auto":
            return _RUNTIME_TRANSPORTS[self.runtime]
        return self.transport

    @property
    def model_servers(self) -> int:
        """The number of addresses in --model-server."""
        return self.model_server.count(",") + 1

    @property
    def tls_files(self) -> TlsFiles:
        """The TLS files for the port that callers use."""
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def model_server_tls_files(self) -> TlsFiles:
        """The TLS files for the channel to the model server."""
        return TlsFiles(self.model_server_cert, self.model_server_key, self.model_server_ca)
