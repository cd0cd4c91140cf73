"""Measure the query service beside other ways to serve candidates.

Bare gRPC echoes in Python, a naive service on the same model server, FastAPI with the index in its
own process, Chroma, and ours are asked by h2load for 100 candidates of one user, with and without
100 exclusions. All servers run all the time; they are measured one after another, in each round in
another order. This needs h2load and the extra `benchmarks`; a peer that is not installed is left
out.
"""

import argparse
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import reporting
from benchmarks.service import compare, report
from benchmarks.service.load import CONNECTIONS
from benchmarks.service.results import summarise
from tools import h2load
from tools.processes import ROOT

_PACKAGES = ("grpcio", "protobuf", "tensorflow", "scann", "fastapi", "uvicorn", "chromadb")


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = reporting.argument_parser("benchmarks.service", __doc__)
    reporting.add_peers(parser, *compare.all_peers(0.0))
    text = "Numbers of requests in flight (default: 1 8 32 128)."
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 8, 32, 128], metavar="N", help=text
    )
    reporting.add_options(
        parser,
        ("--rounds", int, 5, "Measurements of every case."),
        ("--seconds", float, 3.0, "Seconds of one measurement, after 1 s of warm-up."),
        ("--serve-args", str, "", "More options of `query_service serve`, as one text."),
        ("--models-dir", Path, None, "Models of benchmarks.service.model, instead of new ones."),
        ("--work-dir", Path, ROOT / "build" / "service-benchmark", "Where all files are kept."),
        reporting.JSON,
        reporting.PLOT,
    )
    arguments = parser.parse_args()
    if any(one > CONNECTIONS and one % CONNECTIONS for one in arguments.concurrency):
        parser.error(f"--concurrency above {CONNECTIONS} must be a multiple of it")
    if not h2load.installed():
        parser.error(h2load.INSTALL_HINT)
    arguments.work_dir = arguments.work_dir.resolve()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    return arguments


def main() -> None:
    """Measure; print the tables, write JSON and plot."""
    arguments = parse_arguments()
    # As with Ctrl-C, the servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = reporting.console()
    results = compare.run(arguments, console)
    for table in report.tables(results):
        console.print(table)
    said = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    console.print(
        f"{reporting.machine(*_PACKAGES)}, {said.stdout.strip()}\n"
        f"{arguments.rounds} rounds of {arguments.seconds} s; {len(results.errors)} failed\n"
        f"{report.disturbances(results)}"
    )
    summary = [asdict(line) for line in summarise(results)]
    reporting.write_json(arguments, _PACKAGES, summary=summary, **asdict(results))
    if arguments.plot:
        report.plot(results, arguments.plot)


if __name__ == "__main__":
    main()
