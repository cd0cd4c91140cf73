"""Scenario: a hundred thousand fuzzed requests."""

from collections.abc import Iterator

from benchmarks.chaos.checks import Check, at_least, at_most, equal
from benchmarks.chaos.environment import Environment
from tests.fuzz.service import attack
from tools.usage import memory_mib

_MAX_GROWTH_MIB = 64


def fuzz(env: Environment) -> Iterator[Check]:
    """Fuzzed requests, as sent by python -m tests.fuzz service."""
    store = ("--seen-store", f"sqlite:{env.known.seen_store}")
    with env.servers("fuzz", *store) as (models, service):
        before_mib = sum(memory_mib(service.process))
        tally = attack(service.address, env.fuzzed, seed=1, seen=env.known.seen)
        running = models.running and service.running
        growth_mib = sum(memory_mib(service.process)) - before_mib if running else 0.0
        tracebacks = service.output().count("Traceback")
    measured = f"{tally.line()} {', '.join(tally.examples)}"
    what = "no INTERNAL, no excluded item, no duplicate, no crash"
    yield Check(what, measured, "no violation", tally.clean)
    yield Check("requests", f"{tally.statuses.total():,}")
    what = "answers by the model, for users that it knows"
    yield at_least(what, tally.personal, env.fuzzed / 10, "of Retrieve")
    yield equal("service and model server still run", running, True)
    yield equal("tracebacks in the service's log", tracebacks, 0)
    yield at_most("memory growth of the query service", growth_mib, _MAX_GROWTH_MIB, "MiB")
