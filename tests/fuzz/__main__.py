"""Fuzz one target, all targets, or a running service."""

import argparse
import sys
from pathlib import Path

from tests.fuzz import guided

_SEED = "Seed of the random numbers that determine the inputs (default: 1)."


def main() -> int:
    """Fuzz; return 0 if no failure was found, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name in (*guided.TARGETS, "all"):
        text = "Fuzz all targets." if name == "all" else f"Fuzz {guided.TARGETS[name].name}."
        target = commands.add_parser(name, help=text)
        text = "Number of inputs (default: as many as take about a minute)."
        target.add_argument("--runs", type=int, help=text)
        target.add_argument("--seed", type=int, default=1, help=_SEED)
    service = commands.add_parser("service", help="Send requests to a running service.")
    text = "Address of the service."
    service.add_argument("--address", required=True, metavar="HOST:PORT", help=text)
    text = "Number of requests (default: 100000)."
    service.add_argument("--requests", type=int, default=100_000, help=text)
    text = "Number of requests in flight (default: 64)."
    service.add_argument("--in-flight", "--under-way", type=int, default=64, help=text)
    service.add_argument("--seed", type=int, default=1, help=_SEED)
    service.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="File whose first word is sent as the token.",
    )
    service.add_argument(
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="PEM file with root certificates; connects over TLS.",
    )
    service.add_argument(
        "--seen",
        type=Path,
        metavar="SQLITE",
        help="Seen store of the service: users to query for, and what they have seen.",
    )
    arguments = parser.parse_args()
    if arguments.name == "service":
        return _service(arguments)
    failed = False
    for name in guided.TARGETS if arguments.name == "all" else (arguments.name,):
        runs = arguments.runs or guided.TARGETS[name].runs
        result = guided.fuzz(name, runs, arguments.seed)
        print(result.line(), flush=True)
        if result.failure:
            failed = True
            print(result.failure, file=sys.stderr)
    return int(failed)


def _service(arguments: argparse.Namespace) -> int:
    from tests.fuzz.service import attack, read_seen, token_of

    tally = attack(
        arguments.address,
        arguments.requests,
        seed=arguments.seed,
        in_flight=arguments.in_flight,
        token=token_of(arguments.token_file),
        ca=arguments.ca_file.read_bytes() if arguments.ca_file else None,
        seen=read_seen(arguments.seen) if arguments.seen else None,
    )
    print(tally.line())
    for rule, count in tally.violations.items():
        print(f"{rule}: {count:,}", file=sys.stderr)
    for problem, request in tally.examples.items():
        print(f"{problem}: {request.method} {request.data[:400].hex()}", file=sys.stderr)
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
