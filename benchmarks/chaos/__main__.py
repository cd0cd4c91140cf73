"""Run chaos scenarios. The exit status is 1 if a bound was not kept."""

import argparse
import signal
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks import reporting
from benchmarks.chaos import report
from benchmarks.chaos.checks import ScenarioError
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.scenarios import SCENARIOS
from benchmarks.service.catalogue import ensure_model
from tools.processes import ROOT, ProcessError


def run(name: str, environment: Environment) -> report.Result:
    """Run one scenario, from its start until everything that it started has ended."""
    scenario = SCENARIOS[name]
    title = (scenario.__doc__ or "").splitlines()[0].rstrip(".")
    result = report.Result(name, title)
    begun = time.perf_counter()
    try:
        for check in scenario(environment):
            result.checks.append(check)
    except (ScenarioError, ProcessError, TimeoutError) as error:
        result.error = str(error)
    result.seconds = time.perf_counter() - begun
    return result


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = reporting.argument_parser("benchmarks.chaos", __doc__)
    text = f"The scenarios to run: {', '.join(SCENARIOS)} (default: all)."
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=text)
    add = partial(reporting.add_option, parser)
    add("--rate", 500.0, "Requests a second")
    add("--calm-s", 5.0, "Seconds of load before and after a failure")
    add("--overload-s", 30.0, "Seconds of each overload round")
    add("--soak-s", 600.0, "Seconds of the soak scenario")
    add("--fuzzed", 100_000, "Number of requests of the fuzz scenario")
    add("--work-dir", ROOT / "build" / "chaos", "Directory for models, logs and results")
    text = "Directory with models of an earlier run, instead of new ones."
    parser.add_argument("--models-dir", type=Path, help=text)
    text = "Write the table into this file, for example docs/reliability.md."
    parser.add_argument("--document", type=Path, help=text)
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        names = ", ".join(sorted(unknown))
        parser.error(f"unknown scenario {names}; the scenarios are {', '.join(SCENARIOS)}")
    return arguments


def main() -> int:
    """Run the scenarios, print and keep the results; return the exit status."""
    arguments = parse_arguments()
    console = reporting.console()
    # As with Ctrl-C, the servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A thread that checks an answer keeps the others from sending for at most this many seconds.
    sys.setswitchinterval(0.0005)
    work: Path = arguments.work_dir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        models_dir=(arguments.models_dir or ensure_model(work / "models")).resolve(),
        work=work,
        rate=arguments.rate,
        fuzzed=arguments.fuzzed,
        steady_s=arguments.calm_s,
        overload_s=arguments.overload_s,
        soak_s=arguments.soak_s,
    )
    # The options that figures depend on.
    names = ("rate", "calm_s", "overload_s", "soak_s", "fuzzed")
    options = " ".join(f"--{one.replace('_', '-')} {getattr(arguments, one):g}" for one in names)
    results = []
    for name in arguments.scenarios or SCENARIOS:
        results.append(run(name, environment))
        console.print(report.table(results[-1]))
        known = report.save(results[-1], work / "results.json", options)
    if arguments.document:
        report.write_document(known, list(SCENARIOS), arguments.document)
    missed = [result.name for result in results if not result.held]
    console.print(f"bounds missed: {', '.join(missed)}" if missed else "all bounds were kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
