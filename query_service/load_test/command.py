"""Reads what is to be asked, has the load made, and prints what was measured."""

import argparse
import sys
from pathlib import Path

from query_service.errors import UnusableFile
from query_service.load_test import processes, report
from query_service.load_test.load import BenchError, Plan
from query_service.load_test.requests import Requests
from rpc import credentials

_MOST_CONNECTIONS = 8


def run(parsed: argparse.Namespace) -> int:
    """Load as the options say; 0 if there was an OK answer, else 1."""
    try:
        tally = processes.measure(_plans(parsed), show=sys.stderr.isatty())
    # A number beyond int32.
    except (BenchError, UnusableFile, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    print((report.as_json if parsed.json else report.as_text)(tally, parsed))  # noqa: T201
    return 0 if tally.answers else 1


def _plans(parsed: argparse.Namespace) -> list[Plan]:
    """One for each process; they begin at different places of the file."""
    requests = Requests(
        "user_id" if parsed.users else "item_id",
        _ids(parsed.users or parsed.items),
        k=parsed.k,
        exclude_seen=parsed.exclude_seen,
        exclude=_ids(parsed.exclude) if parsed.exclude else (),
        batch=parsed.batch,
    )
    shown = credentials.read(parsed)
    count = parsed.processes
    most = _MOST_CONNECTIONS if parsed.rate else min(parsed.concurrency, _MOST_CONNECTIONS)
    connections = parsed.connections or max(most, count)
    return [
        Plan(
            address=parsed.address,
            requests=requests,
            first=process * requests.calls_in_a_round // count,
            connections=_share(connections, process, count),
            concurrency=_share(parsed.concurrency, process, count),
            rate=parsed.rate / count if parsed.rate else None,
            delay_s=process / parsed.rate if parsed.rate else 0.0,
            warm_up_s=parsed.warm_up,
            duration_s=parsed.duration,
            timeout_s=parsed.timeout_s,
            credentials=shown,
        )
        for process in range(count)
    ]


def _share(total: int, process: int, count: int) -> int:
    """Of ``total`` things what one of ``count`` processes gets; together they get all."""
    return total * (process + 1) // count - total * process // count


def _ids(name: str) -> list[str]:
    """The lines of a file that are not blank.

    Raises:
        BenchError: there is none, or no reading it.
    """
    try:
        with Path("/dev/stdin" if name == "-" else name).open(encoding="utf-8-sig") as file:
            ids = [line.rstrip("\n") for line in file if line.strip()]
    except OSError as error:
        raise BenchError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BenchError(f"{name}: {error}") from error
    if not ids:
        raise BenchError(f"{name}: there is no id in it")
    return ids
