"""Reads the ids to ask for, runs the load, and prints the results."""

import argparse
import sys
from pathlib import Path

from query_service.errors import UnusableFile
from query_service.load_test import processes, report
from query_service.load_test.connection import LoadTestError
from query_service.load_test.load import Plan
from query_service.load_test.requests import Requests
from rpc import credentials

_DEFAULT_CONNECTIONS = 8


def run(parsed: argparse.Namespace) -> int:
    """Run the load test of the options; return 0 if there was an OK answer, else 1."""
    try:
        tally = processes.measure(plans(parsed), show_progress=sys.stderr.isatty())
    # protobuf raises ValueError for a number that does not fit into an int32.
    except (LoadTestError, UnusableFile, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    print((report.as_json if parsed.json else report.as_text)(tally, parsed))  # noqa: T201
    return 0 if tally.answers else 1


def plans(parsed: argparse.Namespace) -> list[Plan]:
    """Return the plan of each process. The processes start at different ids of the file."""
    requests = Requests(
        "user_id" if parsed.users else "item_id",
        read_ids(parsed.users or parsed.items),
        k=parsed.k,
        exclude_seen=parsed.exclude_seen,
        exclude=read_ids(parsed.exclude) if parsed.exclude else (),
        batch=parsed.batch,
    )
    count = parsed.processes
    in_flight = _DEFAULT_CONNECTIONS if parsed.rate else parsed.concurrency
    connections = parsed.connections or max(min(in_flight, _DEFAULT_CONNECTIONS), count)
    shared = credentials.read(parsed)
    return [
        Plan(
            address=parsed.address,
            requests=requests,
            first=process * requests.calls_per_round // count,
            connections=_share(connections, process, count),
            concurrency=_share(parsed.concurrency, process, count),
            rate=parsed.rate / count if parsed.rate else None,
            delay_s=process / parsed.rate if parsed.rate else 0.0,
            warm_up_s=parsed.warm_up,
            duration_s=parsed.duration,
            timeout_s=parsed.timeout_s,
            credentials=shared,
        )
        for process in range(count)
    ]


def _share(total: int, process: int, count: int) -> int:
    """Return the share of one of ``count`` processes; the shares add up to ``total``."""
    return total * (process + 1) // count - total * process // count


def read_ids(name: str) -> list[str]:
    """Return the lines of a file that are not blank.

    Raises:
        LoadTestError: the file cannot be read, or has no such line.
    """
    try:
        with Path("/dev/stdin" if name == "-" else name).open(encoding="utf-8-sig") as file:
            ids = [line.rstrip("\n") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LoadTestError(f"{name}: {getattr(error, 'strerror', error)}") from error
    if not ids:
        raise LoadTestError(f"{name}: the file has no ids; it needs one id per line")
    return ids
