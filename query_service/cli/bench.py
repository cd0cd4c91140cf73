"""The ``bench`` command: sends load to a running query service and measures it."""

import argparse
import math
import sys
from collections.abc import Callable

from query_service.cli.options import add_service_options, fail
from query_service.errors import UnusableFile

#: The largest number that an option accepts. A larger one is probably a typing error.
_MAX_NUMBER = 1_000_000
_MIN_SECONDS = _MIN_RATE = 0.001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the load and for the service."""
    ids = parser.add_mutually_exclusive_group(required=True)
    ids.add_argument(
        "--users",
        metavar="FILE",
        help="Ask for candidates for the user ids in FILE, one per line. - reads standard input.",
    )
    ids.add_argument(
        "--items",
        metavar="FILE",
        help="Ask for items similar to the item ids in FILE, one per line. - reads standard input.",
    )
    loop = parser.add_mutually_exclusive_group()
    loop.add_argument(
        "--concurrency",
        type=_number(int, 1),
        default=32,
        metavar="N",
        help="Closed loop: keep N requests in flight. (default: %(default)s)",
    )
    loop.add_argument(
        "--rate",
        type=_number(float, _MIN_RATE),
        metavar="R",
        help="Open loop: send R requests per second at fixed times, however many are in flight. "
        "Latency is measured from the time at which a request was due.",
    )
    for flag, kind, low, default, text in (
        ("--duration", float, _MIN_SECONDS, 10.0, "Measure for this many seconds."),
        ("--warm-up", float, 0, 1.0, "Send load for this many seconds before measuring."),
        ("-k", int, 1, 100, "Ask for this many candidates."),
        ("--batch", int, 0, 0, "Send this many requests per BatchRetrieve call. 0 uses Retrieve."),
        ("--processes", int, 1, 1, "Send the load from this many processes."),
    ):
        parser.add_argument(
            flag,
            type=_number(kind, low),
            default=default,
            metavar="S" if kind is float else "N",
            help=f"{text} (default: {default:g})",
        )
    parser.add_argument(
        "--connections",
        type=_number(int, 1),
        metavar="N",
        help="Use N TCP connections. (default: 8, or --concurrency if that is less)",
    )
    parser.add_argument(
        "--exclude-seen",
        action="store_true",
        help="With --users: exclude the items that the user has seen.",
    )
    parser.add_argument(
        "--exclude", metavar="FILE", help="Exclude the item ids in FILE from every answer."
    )
    parser.add_argument("--json", action="store_true", help="Print the results as JSON.")
    add_service_options(parser)


def run(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run the load test and print the results; return 0 if there was an OK answer, else 1."""
    from query_service.load_test import processes, report
    from query_service.load_test.connection import LoadTestError
    from query_service.load_test.plan import make_plans

    if parsed.items and parsed.exclude_seen:
        parser.error("--exclude-seen can only be used with --users")
    if not 0 < parsed.timeout_s <= _MAX_NUMBER:
        parser.error(f"--timeout-s must be above 0, not {parsed.timeout_s}")
    if parsed.rate is None and parsed.processes > parsed.concurrency:
        parser.error("--processes must be at most --concurrency")
    if parsed.connections and parsed.processes > parsed.connections:
        parser.error("--processes must be at most --connections")
    try:
        tally = processes.measure(make_plans(parsed), show_progress=sys.stderr.isatty())
    except (LoadTestError, UnusableFile) as error:
        return fail(str(error))
    print((report.as_json if parsed.json else report.as_text)(tally, parsed))  # noqa: T201
    return 0 if tally.answers else 1


def _number(kind: type[float], low: float) -> Callable[[str], float]:
    """Return an argparse type for numbers from ``low`` to one million."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        # Comparisons with NaN are false.
        if not low <= value <= _MAX_NUMBER:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(
                f"must be {name} from {low} to {_MAX_NUMBER}, not {text!r}"
            )
        return value

    return parse
