"""Compare the search speed of Shortlist's index with that of other libraries, at equal recall@100.

The index that `python -m trainer index` exports is called through its SavedModel signature and
compared with TensorFlow Recommenders' ScaNN layer, hnswlib, Faiss and an exact product. All of them
search the same clustered vectors for the same queries by dot product, with k = 100. Each index runs
in its own process, and one process is measured at a time while the others idle.

Half of the queries are used to choose a search setting for each index: the fastest setting that
reaches the target. Recall is reported on the other half. The extra `benchmarks` must be installed;
an index whose library is missing is left out.
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
    add("--dims", 64, "Number of dimensions of the vectors")
    add("--clusters", 0, "Number of clusters; 0 means one per 1,000 vectors")
    add("--noise", 0.6, "Standard deviation around a cluster centre, relative to that of centres")
    add("--queries", 2_000, "Number of queries for measuring, and also of queries for tuning")
    add("--targets", [0.95, 0.99], "Values of recall@100 at which to compare speed")
    add("--rounds", 5, "How many times to measure each setting")
    add("--seconds", 0.5, "Seconds per measurement")
    add("--work-dir", ROOT / "build" / "index-benchmark", "Directory for all files")
    names, text = ("ours", *PEERS), "Peers to measure (default: all)."
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help=text)
    reporting.add_json(parser)
    arguments = parser.parse_args()
    arguments.work_dir = arguments.work_dir.resolve()
    return arguments


def main() -> None:
    """Run the benchmark, print the table, and write the JSON file."""
    arguments = parse_arguments()
    console = reporting.console()
    results = compare.run(arguments, console)
    # The peak memory that the kernel reports for a process includes that of its parent.
    floor_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(table(results, arguments.targets))
    console.print(
        f"{reporting.machine(*_PACKAGES)}\n"
        f"{arguments.rounds} rounds, {arguments.seconds} s per measurement; "
        f"peak memory below {floor_mib:.0f} MiB cannot be measured"
    )
    peers = [asdict(measured) for measured in results]
    loads = [asdict(load) for load in LOADS]
    reporting.write_json(arguments, _PACKAGES, loads=loads, floor_mib=floor_mib, peers=peers)


if __name__ == "__main__":
    main()
