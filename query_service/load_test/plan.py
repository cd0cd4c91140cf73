"""Reads the ids to ask for, and divides the load of a load test among its processes."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from query_service.load_test.connection import LoadTestError
from query_service.load_test.requests import Requests
from rpc import credentials
from rpc.credentials import Credentials

_DEFAULT_CONNECTIONS = 8


@dataclass(frozen=True)
class Plan:
    """The load of one process: an open loop if ``rate`` is set, else a closed loop.

    Attributes:
        address: HOST:PORT of the service.
        requests: The requests of all processes.
        first_call: The index in ``requests`` of the first call to send.
        connections: The number of TCP connections.
        concurrency: The number of calls in flight in the closed loop.
        rate: The number of calls per second in the open loop.
        delay_s: The time in seconds from the start to the first call of the open loop.
        warm_up_s: The time in seconds to send load before measuring.
        duration_s: The time in seconds to measure.
        timeout_s: The timeout of a call in seconds.
        credentials: The credentials to send with each call.
    """

    address: str
    requests: Requests
    first_call: int
    connections: int
    concurrency: int
    rate: float | None
    delay_s: float
    warm_up_s: float
    duration_s: float
    timeout_s: float
    credentials: Credentials = field(default_factory=Credentials)


def make_plans(parsed: argparse.Namespace) -> list[Plan]:
    """Return the plan for each process. Each process starts at a different id.

    Raises:
        LoadTestError: A file with ids cannot be used.
        UnusableFile: A token or certificate file cannot be used.
    """
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
    shared_credentials = credentials.read(parsed)
    return [
        Plan(
            address=parsed.address,
            requests=requests,
            first_call=process * requests.calls_per_round // count,
            connections=_share(connections, process, count),
            concurrency=_share(parsed.concurrency, process, count),
            rate=parsed.rate / count if parsed.rate else None,
            delay_s=process / parsed.rate if parsed.rate else 0.0,
            warm_up_s=parsed.warm_up,
            duration_s=parsed.duration,
            timeout_s=parsed.timeout_s,
            credentials=shared_credentials,
        )
        for process in range(count)
    ]


def _share(total: int, process: int, count: int) -> int:
    """Return the share of a process. The shares of all ``count`` processes add up to ``total``."""
    return total * (process + 1) // count - total * process // count


def read_ids(name: str) -> list[str]:
    """Return the ids in a file, one per non-blank line. ``-`` is standard input.

    Raises:
        LoadTestError: The file cannot be read, or has no ids.
    """
    try:
        with Path("/dev/stdin" if name == "-" else name).open(encoding="utf-8-sig") as file:
            ids = [line.rstrip("\n") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LoadTestError(f"{name}: {getattr(error, 'strerror', error)}") from error
    if not ids:
        raise LoadTestError(f"{name}: the file has no ids; it needs one id per line")
    return ids
