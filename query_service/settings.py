"""How the service runs: flags, or environment variables SHORTLIST_<FLAG>."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from query_service.api.validation import Limits
from serving_contract import MAX_K

UNKNOWN_USER = ("popularity", "not-found")
RUNTIMES = ("core", "aio")


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
    runtime: str = "core"
    cache_size: int = 0
    cache_age_s: float = 60.0
    workers: int = 1

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
        # gRPC takes a larger one modulo 65,536.
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"--port must be 0 to 65535, not {self.port}")
        # No comparison holds for NaN.
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(f"--timeout-s must be more than 0, not {self.timeout_s}")
        if not 0 <= self.grace_s < math.inf:
            raise ValueError(f"--grace-s must be 0 or more, not {self.grace_s}")
        if not 1 <= self.limits.max_candidates <= MAX_K:
            raise ValueError(
                f"--max-candidates must be 1 to {MAX_K}, not {self.limits.max_candidates}"
            )
        if not 1 <= self.limits.default_candidates <= self.limits.max_candidates:
            raise ValueError("--default-candidates must be 1 to --max-candidates")
        if self.unknown_user not in UNKNOWN_USER:
            raise ValueError(
                f"--unknown-user must be {' or '.join(UNKNOWN_USER)}, not {self.unknown_user!r}"
            )
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
        if self.workers < 1:
            raise ValueError(f"--workers must be 1 or more, or auto, not {self.workers}")


def workers(text: str) -> int:
    """A number of worker processes; ``auto``: one for each usable CPU.

    Raises:
        ValueError: it is neither.
    """
    return usable_cpus() if text == "auto" else int(text)


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
