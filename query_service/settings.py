"""How the service runs: flags, or environment variables SHORTLIST_<FLAG>."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from query_service.api.validation import Limits
from query_service.backend.addresses import target
from query_service.telemetry.logs import FORMATS
from serving_contract import MAX_K

UNKNOWN_USER = ("popularity", "not-found")
FALLBACKS = ("none", "popular")
RUNTIMES = ("core", "aio")


def workers(text: str) -> int:
    """A number of worker processes; ``auto``: one for each usable CPU.

    Raises:
        ValueError: it is neither.
    """
    return usable_cpus() if text == "auto" else int(text)


def yes_or_no(text: str) -> bool:
    """Of a variable; a flag without a value is a yes.

    Raises:
        ValueError: it is neither.
    """
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("0", "false", "no"):
        return False
    raise ValueError(f"must be yes or no, not {text!r}")


def _setting(default: Any, text: str, read: Callable[[str], Any] | None = None) -> Any:
    """A field that is also a flag: its default, its help, and how it is read from text."""
    return field(default=default, metadata={"help": text, "read": read or type(default)})


@dataclass(frozen=True)
class Settings:
    """Checked values. Each field is a flag of ``python -m query_service serve``."""

    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(50051, "port to listen on; 0: any free one, printed")
    model_server: str = _setting(
        "127.0.0.1:8500",
        "HOST:PORT of TensorFlow Serving; of several, all addresses of HOST, or IP:PORT,IP:PORT",
    )
    model: str = _setting("retrieval", "retrieval (ScaNN) or retrieval_exact")
    seen_store: str = _setting("none", "sqlite:PATH, redis://HOST:PORT/DB, rediss://... or none")
    timeout_s: float = _setting(1.0, "no request takes longer")
    default_candidates: int = _setting(100, "max_candidates 0 means this")
    max_candidates: int = _setting(1000, "the most a request may ask for")
    unknown_user: str = _setting(
        "popularity", "popularity: the most popular items; not-found: NOT_FOUND"
    )
    fallback: str = _setting(
        "none", "popular: the most popular items while the model server is away; none: UNAVAILABLE"
    )
    max_concurrent_requests: int = _setting(1000, "beyond: RESOURCE_EXHAUSTED")
    lame_duck_s: float = _setting(
        0.0, "at the end: NOT_SERVING, and all the same answer for so long, until callers know"
    )
    grace_s: float = _setting(10.0, "then: for requests under way")
    cache_size: int = _setting(0, "answers of the model server to keep; 0: none")
    cache_age_s: float = _setting(60.0, "for how long")
    runtime: str = _setting("core", "core, or aio: grpc.aio, three times the cost a request")
    workers: int = _setting(
        1, "processes that share the port, or auto: one for each usable CPU", workers
    )
    tls_cert: str = _setting("", "certificate to show callers, PEM; needs --tls-key")
    tls_key: str = _setting("", "its private key, PEM")
    tls_client_ca: str = _setting("", "callers must show a certificate of these authorities, PEM")
    tokens: str = _setting("", "callers must show a token of this file, TOML")
    insecure: bool = _setting(
        False, "listen on any address, even without TLS and without tokens", yes_or_no
    )
    model_server_ca: str = _setting("", "TLS to the model server: its authorities, PEM")
    model_server_cert: str = _setting("", "certificate to show the model server, PEM")
    model_server_key: str = _setting("", "its private key, PEM")
    model_server_name: str = _setting(
        "", "name in the model server's certificate, if not the address's"
    )
    metrics_host: str = _setting("127.0.0.1", "address to serve Prometheus metrics on")
    metrics_port: int = _setting(0, "port to serve them on, at /metrics; 0: none")
    log_format: str = _setting("text", "of the log on standard error: text or json")
    slow_ms: float = _setting(500.0, "requests that take as long are logged; 0: none")

    def __post_init__(self) -> None:
        """Refuse at the start what would only fail, or silently mean something else, later.

        Raises:
            ValueError: names the flag and its range.
        """
        for flag, value in (
            ("--host", self.host),
            ("--model-server", self.model_server),
            ("--model", self.model),
        ):
            if not value:
                raise ValueError(f"{flag} must not be empty")
        target(self.model_server)
        # gRPC takes a larger one modulo 65,536.
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"--port must be 0 to 65535, not {self.port}")
        # No comparison holds for NaN.
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(f"--timeout-s must be more than 0, not {self.timeout_s}")
        for flag, seconds in (("--lame-duck-s", self.lame_duck_s), ("--grace-s", self.grace_s)):
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{flag} must be 0 or more, not {seconds}")
        if not 1 <= self.max_candidates <= MAX_K:
            raise ValueError(f"--max-candidates must be 1 to {MAX_K}, not {self.max_candidates}")
        if not 1 <= self.default_candidates <= self.max_candidates:
            raise ValueError("--default-candidates must be 1 to --max-candidates")
        if self.unknown_user not in UNKNOWN_USER:
            raise ValueError(
                f"--unknown-user must be {' or '.join(UNKNOWN_USER)}, not {self.unknown_user!r}"
            )
        if self.fallback not in FALLBACKS:
            raise ValueError(f"--fallback must be {' or '.join(FALLBACKS)}, not {self.fallback!r}")
        if self.cache_size < 0:
            raise ValueError(f"--cache-size must be 0 or more, not {self.cache_size}")
        if not 0 < self.cache_age_s < math.inf:
            raise ValueError(f"--cache-age-s must be more than 0, not {self.cache_age_s}")
        if self.runtime not in RUNTIMES:
            raise ValueError(f"--runtime must be {' or '.join(RUNTIMES)}, not {self.runtime!r}")
        if self.max_concurrent_requests < 1:
            raise ValueError(
                f"--max-concurrent-requests must be 1 or more, not {self.max_concurrent_requests}"
            )
        if not self.metrics_host:
            raise ValueError("--metrics-host must not be empty")
        if not 0 <= self.metrics_port <= 65_535:
            raise ValueError(f"--metrics-port must be 0 to 65535, not {self.metrics_port}")
        if self.log_format not in FORMATS:
            raise ValueError(
                f"--log-format must be {' or '.join(FORMATS)}, not {self.log_format!r}"
            )
        if not 0 <= self.slow_ms < math.inf:
            raise ValueError(f"--slow-ms must be 0 or more, not {self.slow_ms}")
        if self.workers < 1:
            raise ValueError(f"--workers must be 1 or more, or auto, not {self.workers}")
        self._check_files()

    def _check_files(self) -> None:
        """What only makes sense with another one."""
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if bool(self.model_server_cert) != bool(self.model_server_key):
            raise ValueError("--model-server-cert and --model-server-key go together")
        for flag, value in (
            ("--model-server-cert", self.model_server_cert),
            ("--model-server-name", self.model_server_name),
        ):
            if value and not self.model_server_ca:
                raise ValueError(f"{flag} needs --model-server-ca")

    @property
    def model_servers(self) -> int:
        """How many are named."""
        return self.model_server.count(",") + 1

    @property
    def limits(self) -> Limits:
        """What a request may ask for."""
        return Limits(self.default_candidates, self.max_candidates)


def usable_cpus(limit_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The CPUs that this process may run on, within its control group's limit; at least 1."""
    # Linux only.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))
    # No such limit: control groups of version 1, or none.
    except (OSError, ValueError):
        return cpus
