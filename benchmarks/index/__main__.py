"""Measure the speed of the index beside others, at equal recall@100.

The signature of the SavedModel that `python -m trainer index` exports is compared with the ScaNN
layer of TensorFlow Recommenders, hnswlib, Faiss and an exact product. All of them search the same
clustered vectors for the same queries by dot product, with k = 100. Each index has a process of
its own, and the processes are measured one after another while the others idle.

Half of the queries are used to choose the search setting of each peer: the fastest one that
reaches the target. Recall is reported on the other half. This needs the extra `benchmarks`; a peer
whose library is not installed is left out.
"""

import argparse
import resource
from dataclasses import asdict
from functools import partial

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
    add = partial(reporting.add_option, parser)
    add("--vectors", 1_000_000, "Number of vectors")
    add("--dims", 64, "Dimensions of the vectors")
    add("--clusters", 0, "Number of clusters of vectors; 0 means one per 1,000 vectors")
    add("--noise", 0.6, "Deviation around a centre, relative to that of the centres")
    add("--queries", 2_000, "Number of queries to measure with, and of those to tune with")
    add("--targets", [0.95, 0.99], "The values of recall@100 at which speed is compared")
    add("--rounds", 5, "Measurements of every setting")
    add("--seconds", 0.5, "Seconds of one measurement")
    add("--work-dir", ROOT / "build" / "index-benchmark", "Directory for all files")
    names, text = ("ours", *PEERS), "Peers to measure (default: all)."
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help=text)
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
