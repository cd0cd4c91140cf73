"""Measure the speed of the index beside others, at equal recall@100.

The signature of the SavedModel that `python -m trainer index` exports is compared with the ScaNN
layer of TensorFlow Recommenders, hnswlib, Faiss and an exact product. All of them search the same
clustered vectors for the same queries by dot product, with k = 100. Each index has a process of
its own, and the processes are measured one after another while the others idle.

Half of the queries are used to choose the search setting of each peer: the fastest one that
reaches the target. Recall is reported on the other half. This needs the extra `benchmarks`; a peer
that is not installed is left out.
"""

import argparse
import resource
from dataclasses import asdict
from pathlib import Path

from benchmarks import reporting
from benchmarks.index import compare
from benchmarks.index.peers import PEERS
from benchmarks.index.process import LOADS
from benchmarks.index.results import table
from tools.processes import ROOT

_PACKAGES = ("tensorflow", "scann", "tensorflow-recommenders", "hnswlib", "faiss-cpu", "numpy")


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = reporting.argument_parser("benchmarks.index", __doc__)
    add = parser.add_argument
    add("--vectors", type=int, default=1_000_000, help="Number of vectors (default: a million).")
    add("--dims", type=int, default=64, help="Dimensions of the vectors (default: 64).")
    add("--clusters", type=int, default=0, help="Clusters of vectors (default: vectors / 1,000).")
    text = "Deviation around a centre, relative to that of the centres (default: 0.6)."
    add("--noise", type=float, default=0.6, help=text)
    text = "Number of queries to measure with, and of those to tune with (default: 2000)."
    add("--queries", type=int, default=2_000, help=text)
    text = "The values of recall@100 at which speed is compared (default: 0.95 0.99)."
    add("--targets", type=float, nargs="+", default=[0.95, 0.99], help=text)
    names = ("ours", *PEERS)
    add("--peers", nargs="+", choices=names, default=names, help="Peers to measure (default: all).")
    add("--rounds", type=int, default=5, help="Measurements of every setting (default: 5).")
    add("--seconds", type=float, default=0.5, help="Seconds of one measurement (default: 0.5).")
    text = "Directory for all files (default: build/index-benchmark)."
    add("--work-dir", type=Path, default=ROOT / "build" / "index-benchmark", help=text)
    reporting.add_json(parser)
    arguments = parser.parse_args()
    arguments.work_dir = arguments.work_dir.resolve()
    return arguments


def main() -> None:
    """Measure, print the table, and write the JSON file."""
    arguments = parse_arguments()
    console = reporting.console()
    results = compare.run(arguments, console)
    # The kernel counts the peak memory of the parent of a process as its own.
    floor_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(table(results, arguments.targets))
    console.print(
        f"{reporting.machine(*_PACKAGES)}\n"
        f"{arguments.rounds} rounds of {arguments.seconds} s; "
        f"peak memory below {floor_mib:.0f} MiB cannot be measured"
    )
    peers = [asdict(measured) for measured in results]
    loads = [asdict(load) for load in LOADS]
    reporting.write_json(arguments, _PACKAGES, loads=loads, floor_mib=floor_mib, peers=peers)


if __name__ == "__main__":
    main()
