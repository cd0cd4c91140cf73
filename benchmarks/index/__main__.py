"""Measure the speed of the index beside others, at equal recall@100.

Ours, through the signature of the SavedModel that `python -m trainer index` exports, is compared
with the ScaNN layer of TensorFlow Recommenders, hnswlib, Faiss and the exact product. All search
the same clustered vectors for the same queries by dot product, k = 100. Each index has a process
of its own, and the processes are measured one after another while the others idle.

Half of the queries are for choosing: every search setting of a peer is tried, and the fastest one
that reaches the target is its operating point. The other half is reported. This needs the extra
`benchmarks`; a peer that is not installed is left out.
"""

import argparse
import resource
from dataclasses import asdict
from pathlib import Path

from benchmarks import reporting, vectors
from benchmarks.index import compare
from benchmarks.index.peers import PEERS
from benchmarks.index.results import LOADS, plot, table
from tools.processes import ROOT


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = reporting.argument_parser("benchmarks.index", __doc__)
    vectors.add_options(parser)
    text = "The recall@100 at which speed is compared (default: 0.95 0.99)."
    parser.add_argument("--targets", type=float, nargs="+", default=[0.95, 0.99], help=text)
    reporting.add_peers(parser, "ours", *PEERS)
    reporting.add_options(
        parser,
        ("--rounds", int, 5, "Measurements of every setting."),
        ("--seconds", float, 0.5, "Seconds of one measurement."),
        ("--work-dir", Path, ROOT / "build" / "index-benchmark", "Where all files are kept."),
        reporting.JSON,
        reporting.PLOT,
    )
    arguments = parser.parse_args()
    arguments.work_dir = arguments.work_dir.resolve()
    return arguments


def main() -> None:
    """Measure; print the table, write JSON and plot."""
    arguments = parse_arguments()
    console = reporting.console()
    results = compare.run(arguments, console)
    floor_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    packages = ("tensorflow", "scann", "tensorflow-recommenders", "hnswlib", "faiss-cpu", "numpy")
    console.print(table(results, arguments.targets))
    console.print(
        f"{reporting.machine(*packages)}\n"
        f"{arguments.rounds} rounds of {arguments.seconds} s; "
        f"peak memory below {floor_mib:.0f} MiB cannot be measured"
    )
    peers = [asdict(measured) for measured in results]
    loads = [asdict(load) for load in LOADS]
    reporting.write_json(arguments, packages, loads=loads, floor_mib=floor_mib, peers=peers)
    if arguments.plot:
        plot(results, arguments.plot)


if __name__ == "__main__":
    main()
