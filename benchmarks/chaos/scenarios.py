"""All scenarios by name, in the order in which they run."""

from collections.abc import Callable, Iterator

from benchmarks.chaos import access, fuzzing, outages, overload, services, soak, versions
from benchmarks.chaos.checks import Check
from benchmarks.chaos.environment import Environment

Scenario = Callable[[Environment], Iterator[Check]]

SCENARIOS: dict[str, Scenario] = {
    "kill-model-server": outages.kill,
    "kill-model-server-fallback": outages.kill_with_fallback,
    "kill-one-of-two": outages.kill_one_of_two,
    "pause-model-server": outages.pause,
    "kill-worker": services.kill_worker,
    "publishes": versions.publishes,
    "redis": outages.redis_outages,
    "overload": overload.overload,
    "drain": services.drain,
    "drain-one-of-two": services.drain_one_of_two,
    "fuzz": fuzzing.fuzz,
    "certificates": access.certificates,
    "tokens": access.tokens,
    "soak": soak.soak,
}
