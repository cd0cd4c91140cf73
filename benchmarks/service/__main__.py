"""Compare the query service with other ways to serve candidates.

h2load requests 100 candidates for one user, with and without 100 exclusions, from Python gRPC
echoes, a naive service that calls the same model server, FastAPI with the index in its own process,
Chroma, and Shortlist. All servers run all the time and are measured one after another, in a
different order in each round. This needs h2load and the extra `benchmarks`.
"""

import argparse
import signal
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import reporting
from benchmarks.service import compare
from benchmarks.service.load import CONNECTIONS
from benchmarks.service.results import describe_disturbances, summarise, tables
from tools import h2load
from tools.processes import ROOT

_PACKAGES = ("grpcio", "protobuf", "tensorflow", "scann", "fastapi", "uvicorn", "chromadb")


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = reporting.argument_parser("benchmarks.service", __doc__)
    add = partial(reporting.add_option, parser)
    add("--concurrency", [1, 8, 32, 128], "Numbers of requests in flight to measure with")
    add("--rounds", 5, "How many times to measure each peer and load")
    add("--seconds", 3.0, "Seconds per measurement, after 1 s of warm-up")
    add("--work-dir", ROOT / "build" / "service-benchmark", "Directory for all files")
    text = "Use the models from an earlier run in this directory instead of making new ones."
    parser.add_argument("--models-dir", type=Path, help=text)
    text = "Additional options of `query_service serve`, as one argument."
    parser.add_argument("--serve-args", default="", help=text)
    names, text = tuple(compare.all_peers()), "Peers to measure (default: all)."
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help=text)
    reporting.add_json(parser)
    arguments = parser.parse_args()
    if any(number > CONNECTIONS and number % CONNECTIONS for number in arguments.concurrency):
        parser.error(f"--concurrency above {CONNECTIONS} must be a multiple of {CONNECTIONS}")
    if not h2load.installed():
        parser.error(h2load.INSTALL_HINT)
    arguments.work_dir = arguments.work_dir.resolve()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    return arguments


def main() -> None:
    """Run the benchmark, print the tables, and write the JSON file."""
    arguments = parse_arguments()
    # SIGTERM ends the program like Ctrl-C, so that all servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = reporting.console()
    results = compare.run(arguments, console)
    summary = summarise(results, arguments.concurrency)
    for table in tables(results, summary):
        console.print(table)
    version = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    console.print(
        f"{reporting.machine(*_PACKAGES)}, {version.stdout.strip()}\n"
        f"{arguments.rounds} rounds, {arguments.seconds} s per measurement; "
        f"{len(results.errors)} measurements failed\n"
        f"{describe_disturbances(results)}"
    )
    reporting.write_json(
        arguments,
        _PACKAGES,
        summary=[asdict(line) for line in summary],
        samples=results.samples.to_dict("records"),
        recall=results.recall,
        errors=results.errors,
    )


if __name__ == "__main__":
    main()
