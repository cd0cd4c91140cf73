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
from functools import partial
from pathlib import Path

from benchmarks import reporting
from benchmarks.service import compare
from benchmarks.service.load import CONNECTIONS
from benchmarks.service.results import disturbances, summarise, tables
from tools import h2load
from tools.processes import ROOT

_PACKAGES = ("grpcio", "protobuf", "tensorflow", "scann", "fastapi", "uvicorn", "chromadb")


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = reporting.argument_parser("benchmarks.service", __doc__)
    add = partial(reporting.add_option, parser)
    add("--concurrency", [1, 8, 32, 128], "Numbers of requests in flight")
    add("--rounds", 5, "Measurements of every case")
    add("--seconds", 3.0, "Seconds of one measurement, after 1 s of warm-up")
    add("--work-dir", ROOT / "build" / "service-benchmark", "Directory for all files")
    text = "Directory with models of an earlier run, instead of new ones."
    parser.add_argument("--models-dir", type=Path, help=text)
    text = "More options of `query_service serve`, as one text."
    parser.add_argument("--serve-args", default="", help=text)
    names, text = tuple(compare.all_peers()), "Peers to measure (default: all)."
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help=text)
    reporting.add_json(parser)
    arguments = parser.parse_args()
    if any(one > CONNECTIONS and one % CONNECTIONS for one in arguments.concurrency):
        parser.error(f"--concurrency above {CONNECTIONS} must be a multiple of it")
    if not h2load.installed():
        parser.error(h2load.INSTALL_HINT)
    arguments.work_dir = arguments.work_dir.resolve()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    return arguments


def main() -> None:
    """Measure; print the tables, and write the JSON file."""
    arguments = parse_arguments()
    # As with Ctrl-C, the servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = reporting.console()
    results = compare.run(arguments, console)
    summary = summarise(results, arguments.concurrency)
    for table in tables(results, summary):
        console.print(table)
    done = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    console.print(
        f"{reporting.machine(*_PACKAGES)}, {done.stdout.strip()}\n"
        f"{arguments.rounds} rounds of {arguments.seconds} s; {len(results.errors)} failed\n"
        f"{disturbances(results)}"
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
