"""All scenarios by name, in the order in which they run."""

from collections.abc import Callable, Iterator

from benchmarks.chaos import (
    access,
    fuzzing,
    model_servers,
    overload,
    seen_items,
    services,
    soak,
    versions,
)
from benchmarks.chaos.checks import Check
from benchmarks.chaos.environment import Environment

Scenario = Callable[[Environment], Iterator[Check]]

SCENARIOS: dict[str, Scenario] = {
    "kill-model-server": model_servers.kill,
    "kill-model-server-fallback": model_servers.kill_with_fallback,
    "kill-one-of-two": model_servers.kill_one_of_two,
    "pause-model-server": model_servers.pause,
    "kill-worker": services.kill_worker,
    "publishes": versions.publishes,
    "redis": seen_items.redis_outages,
    "overload": overload.overload,
    "drain": services.drain,
    "drain-one-of-two": services.drain_one_of_two,
    "fuzz": fuzzing.fuzz,
    "certificates": access.certificates,
    "tokens": access.tokens,
    "soak": soak.soak,
}
