"""Run chaos scenarios. The exit status is 1 if a measurement violates its bound."""

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
    """Run one scenario and wait until all processes that it started have ended."""
    scenario = SCENARIOS[name]
    title = (scenario.__doc__ or "").splitlines()[0].rstrip(".")
    result = report.Result(name, title)
    start = time.perf_counter()
    try:
        for check in scenario(environment):
            result.checks.append(check)
    except (ScenarioError, ProcessError, TimeoutError) as error:
        result.error = str(error)
    result.seconds = time.perf_counter() - start
    return result


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = reporting.argument_parser("benchmarks.chaos", __doc__)
    text = f"The scenarios to run: {', '.join(SCENARIOS)} (default: all)."
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=text)
    add = partial(reporting.add_option, parser)
    add("--rate", 500.0, "Requests per second")
    add("--calm-s", 5.0, "Seconds of load before and after a failure")
    add("--overload-s", 30.0, "Duration of each overload round in seconds")
    add("--soak-s", 600.0, "Duration of the soak scenario in seconds")
    add("--fuzzed", 100_000, "Number of requests in the fuzz scenario")
    add("--work-dir", ROOT / "build" / "chaos", "Directory for models, logs and results")
    text = "Use the models from an earlier run in this directory instead of making new ones."
    parser.add_argument("--models-dir", type=Path, help=text)
    text = "Write the results into this Markdown file, such as docs/reliability.md."
    parser.add_argument("--document", type=Path, help=text)
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        names = ", ".join(sorted(unknown))
        parser.error(f"unknown scenario {names}; the scenarios are {', '.join(SCENARIOS)}")
    return arguments


def main() -> int:
    """Run the scenarios, print and save the results, and return the exit status."""
    arguments = parse_arguments()
    console = reporting.console()
    # SIGTERM ends the program like Ctrl-C, so that all servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A thread that checks an answer can delay the sending thread by at most this many seconds.
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
    # The options that affect the measurements.
    names = ("rate", "calm_s", "overload_s", "soak_s", "fuzzed")
    options = " ".join(f"--{name.replace('_', '-')} {getattr(arguments, name):g}" for name in names)
    results = []
    for name in arguments.scenarios or SCENARIOS:
        results.append(run(name, environment))
        console.print(report.table(results[-1]))
        saved_results = report.save(results[-1], work / "results.json", options)
    if arguments.document:
        report.write_document(saved_results, list(SCENARIOS), arguments.document)
    failed = [result.name for result in results if not result.passed]
    console.print(f"failed scenarios: {', '.join(failed)}" if failed else "all scenarios passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
