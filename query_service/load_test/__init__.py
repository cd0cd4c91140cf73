"""``python -m query_service bench``: put load on a running query service and measure it.

``add_options`` and ``run`` are all that the command line imports; the rest is loaded on demand.

command     reads the options and runs the load
processes   runs the processes that make the load, and collects their results
load        the closed-loop or open-loop load of one process
connection  one connection to the service
requests    serialised requests
tally       counts and latencies
report      the results as text and as JSON
"""

import argparse
import math
from collections.abc import Callable

#: The largest duration in seconds and the largest rate; more is a mistyped number.
_LARGEST = 1e6


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench``, except for ``--address`` and ``--timeout-s``."""
    ids = parser.add_mutually_exclusive_group(required=True)
    ids.add_argument(
        "--users", metavar="FILE", help="Ask for the user ids in FILE, one per line; - is stdin."
    )
    ids.add_argument(
        "--items", metavar="FILE", help="Ask for the item ids in FILE, one per line; - is stdin."
    )
    loop = parser.add_mutually_exclusive_group()

    def number(option: str, kind: Callable[[str], float], default: float, text: str) -> None:
        group = loop if option == "--concurrency" else parser
        metavar = "S" if isinstance(default, float) else "N"
        text = f"{text} (default: {default:g})"
        group.add_argument(option, type=kind, default=default, metavar=metavar, help=text)

    number("--concurrency", _number(int, 1), 32, "Closed loop: keep N requests in flight.")
    loop.add_argument(
        "--rate",
        type=_positive,
        metavar="R",
        help="Open loop: send R requests a second at fixed times, however many are in flight. "
        "Latency counts from the time when a request was due.",
    )
    number("--duration", _positive, 10.0, "Measure for S seconds.")
    number("--warm-up", _number(float, 0), 1.0, "Send load for S seconds before measuring.")
    number("-k", _number(int, 1), 100, "Ask for N candidates.")
    parser.add_argument(
        "--exclude-seen",
        action="store_true",
        help="With --users, exclude the items that the user has seen.",
    )
    parser.add_argument(
        "--exclude", metavar="FILE", help="Exclude the item ids in FILE from every answer."
    )
    number(
        "--batch", _number(int, 0), 0, "Call BatchRetrieve with N requests each; 0 calls Retrieve."
    )
    parser.add_argument(
        "--connections",
        type=_number(int, 1),
        metavar="N",
        help="Use N TCP connections (default: 8, or --concurrency if that is less).",
    )
    number("--processes", _number(int, 1), 1, "Make the load with N processes.")
    parser.add_argument("--json", action="store_true", help="Print the results as JSON.")


def run(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run the load test and print the results; return 0 if there was an OK answer, else 1."""
    from query_service.load_test import command

    if parsed.items and parsed.exclude_seen:
        parser.error("--exclude-seen can only be used with --users")
    if not 0 < parsed.timeout_s <= _LARGEST:
        parser.error(f"--timeout-s must be more than 0, not {parsed.timeout_s}")
    if parsed.rate is None and parsed.processes > parsed.concurrency:
        parser.error("--processes must not be more than --concurrency")
    if parsed.connections and parsed.processes > parsed.connections:
        parser.error("--processes must not be more than --connections")
    return command.run(parsed)


def _number(kind: type[float], low: float, *, exclusive: bool = False) -> Callable[[str], float]:
    """Return a type for argparse, which puts the option's name before the message."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        # Every comparison with NaN is false.
        high = math.inf if kind is int else _LARGEST
        if not low <= value <= high or (exclusive and value == low):
            word = "a whole number" if kind is int else f"a number up to {_LARGEST:g}"
            least = "above" if exclusive else "of at least"
            raise argparse.ArgumentTypeError(f"must be {word} {least} {low:g}, not {text!r}")
        return value

    return number


_positive = _number(float, 0, exclusive=True)
