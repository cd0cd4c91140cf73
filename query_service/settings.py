"""How the service runs: flags, or environment variables SHORTLIST_<FLAG>."""

from dataclasses import dataclass, field

from query_service.validation import Limits


@dataclass(frozen=True)
class Settings:
    """Checked values; see ``python -m query_service serve --help`` for what they do."""

    host: str = "127.0.0.1"
    port: int = 50051
    model_server: str = "127.0.0.1:8500"
    model: str = "retrieval"
    seen_store: str = "none"
    timeout_s: float = 1.0
    limits: Limits = field(default_factory=Limits)
    unknown_user: str = "popularity"
    max_concurrent_requests: int = 1000
    grace_s: float = 10.0
