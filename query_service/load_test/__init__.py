"""``python -m query_service bench``: load on a running query service, and what it measures.

``requests`` makes the bytes, ``load`` sends them from one process, ``tally`` counts, ``command``
runs the processes, ``report`` says what came out. This module is all that other commands import.
"""

import argparse
from collections.abc import Callable

#: Of seconds, and of requests a second: what is beyond is a slip of the hand.
_MOST = 1e6


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``bench``, without ``--address`` and ``--timeout-s``."""
    ids = parser.add_mutually_exclusive_group(required=True)
    ids.add_argument("--users", metavar="FILE", help="user ids to ask for, one a line; - is stdin")
    ids.add_argument("--items", metavar="FILE", help="item ids to ask for, one a line; - is stdin")
    loop = parser.add_mutually_exclusive_group()

    def number(option: str, kind: Callable[[str], float], default: float, text: str) -> None:
        place = loop if option == "--concurrency" else parser
        metavar = "S" if isinstance(default, float) else "N"
        text = f"{text} (default: {default:g})"
        place.add_argument(option, type=kind, default=default, metavar=metavar, help=text)

    number("--concurrency", _whole(1), 32, "closed loop: requests under way at a time")
    loop.add_argument(
        "--rate",
        type=_positive,
        metavar="R",
        help="open loop: R requests a second at fixed times, however many are under way; "
        "latency counts from when a request was due",
    )
    number("--duration", _positive, 10.0, "seconds that count")
    number("--warm-up", _not_negative, 1.0, "seconds of load before them")
    number("-k", _whole(1), 100, "candidates to ask for")
    parser.add_argument(
        "--exclude-seen", action="store_true", help="with --users: without what was seen"
    )
    parser.add_argument("--exclude", metavar="FILE", help="item ids to exclude in every request")
    number("--batch", _whole(0), 0, "BatchRetrieve with N requests in a call; 0: Retrieve")
    parser.add_argument(
        "--connections",
        type=_whole(1),
        metavar="N",
        help="TCP connections (default: 8, or --concurrency if that is less)",
    )
    number("--processes", _whole(1), 1, "processes that make the load")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Load and measure; 0 if there was an OK answer, else 1."""
    # What the other commands need not load.
    from query_service.load_test import command

    if parsed.items and parsed.exclude_seen:
        parser.error("--exclude-seen goes with --users")
    if not 0 < parsed.timeout_s <= _MOST:
        parser.error(f"--timeout-s must be more than 0, not {parsed.timeout_s}")
    # No process without a request or a connection.
    if parsed.rate is None and parsed.processes > parsed.concurrency:
        parser.error("--processes must not be more than --concurrency")
    if parsed.connections and parsed.processes > parsed.connections:
        parser.error("--processes must not be more than --connections")
    return command.run(parsed)


def _whole(least: int) -> Callable[[str], int]:
    """For argparse, which names the option before the message."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text!r}")
        return int(text)

    return whole


def _positive(text: str) -> float:
    value = _not_negative(text)
    if not value:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from error
    # No comparison holds for NaN.
    if not 0 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"must be 0 to {_MOST:g}, not {text}")
    return value
