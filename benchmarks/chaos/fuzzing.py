"""A hundred thousand fuzzed requests."""

import re
import subprocess
from collections.abc import Iterator

from benchmarks.chaos.checks import Check, ScenarioError, at_least, at_most, equal
from benchmarks.chaos.environment import Environment
from tools.processes import ROOT, environment, python_module
from tools.usage import memory_mib

_MAX_GROWTH_MIB = 64
_PERSONAL = re.compile(r"([\d,]+) personal")
_TIMEOUT_S = 3600


def fuzz(env: Environment) -> Iterator[Check]:
    """Fuzzed requests, by python -m tests.fuzz service."""
    if not (ROOT / "tests" / "fuzz").is_dir():
        raise ScenarioError("tests/fuzz does not exist")
    store = env.catalogue.seen_store
    with env.servers("fuzz", "--seen-store", f"sqlite:{store}") as (models, service):
        before_mib = sum(memory_mib(service.process))
        done = subprocess.run(
            python_module(
                "tests.fuzz service",
                *("--address", service.address, "--requests", f"{env.fuzzed}"),
                *("--seen", str(store)),
            ),
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        running = models.running and service.running
        growth_mib = sum(memory_mib(service.process)) - before_mib if running else 0.0
        tracebacks = service.output().count("Traceback")
    lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    what = "no INTERNAL, no excluded item, no duplicate, no crash"
    yield Check(what, lines[-1][:200], "exit status 0", done.returncode == 0)
    yield Check("requests", f"{env.fuzzed:,}")
    personal = _PERSONAL.search(lines[-1])
    yield at_least(
        "answers by the model, for users that it knows",
        int(personal[1].replace(",", "")) if personal else 0,
        env.fuzzed / 10,
        "of Retrieve",
    )
    yield equal("service and model server still run", running, True)
    yield equal("tracebacks in the service's log", tracebacks, 0)
    yield at_most("memory growth of the query service", growth_mib, _MAX_GROWTH_MIB, "MiB")
