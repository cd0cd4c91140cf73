"""A hundred thousand requests that no sane caller sends."""

import re
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.chaos.checks import Broken, Check, at_least, at_most, holds, told
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.processes import ROOT, environment, memory_mib

_GROWN_MIB = 64
_PERSONAL = re.compile(r"([\d,]+) personal")
_TIMEOUT_S = 3600


def fuzz(lab: Lab) -> Iterator[Check]:
    """Fuzzed requests, by python -m tests.fuzz service."""
    if not (ROOT / "tests" / "fuzz").is_dir():
        raise Broken("there is no tests/fuzz")
    store = lab.catalogue.seen_store
    seen = ("--seen-store", f"sqlite:{store}")
    with (
        lab.model_server("fuzz-models") as models,
        lab.service("fuzz", models, arguments=seen) as service,
    ):
        before = memory_mib(service.process)
        command = [sys.executable, "-m", "tests.fuzz", "service", "--address", service.address]
        done = subprocess.run(
            [*command, "--requests", f"{lab.fuzzed}", "--seen", str(store)],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        running = models.lives() and service.lives()
        grown = memory_mib(service.process) - before if running else 0.0
        tracebacks = service.said().count("Traceback")
    said = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
    held = done.returncode == 0
    yield holds(
        "no INTERNAL, no excluded item, no duplicate, no crash",
        held,
        said[-1][:200],
        "exit status 0",
    )
    yield told("requests", f"{lab.fuzzed:,}")
    personal = _PERSONAL.search(said[-1])
    yield at_least(
        "answers by the model, for users that it knows",
        int(personal[1].replace(",", "")) if personal else 0,
        lab.fuzzed / 10,
        "of Retrieve",
    )
    yield holds("service and model server still run", running, "yes" if running else "no", "yes")
    yield holds("tracebacks in the service's log", not tracebacks, f"{tracebacks}", "0")
    yield at_most("memory of the query service grew by", grown, _GROWN_MIB, "MiB")
