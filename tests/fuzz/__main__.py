"""``python -m tests.fuzz``: a target, all of them, or a running service."""

import argparse
import sys
from pathlib import Path

from tests.fuzz import guided


def main() -> int:
    """0 where nothing was found, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name in (*guided.TARGETS, "all"):
        target = commands.add_parser(name)
        target.add_argument("--runs", type=int, help="default: what takes a minute or two")
        target.add_argument("--seed", type=int, default=1)
    service = commands.add_parser("service", help="send requests to a running service")
    service.add_argument("--address", required=True, metavar="HOST:PORT")
    service.add_argument("--requests", type=int, default=100_000)
    service.add_argument("--under-way", type=int, default=64, help="requests at a time")
    service.add_argument("--seed", type=int, default=1)
    service.add_argument("--token-file", type=Path, metavar="FILE", help="the first word is sent")
    service.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM; makes it TLS")
    service.add_argument("--seen", type=Path, metavar="SQLITE", help="users to ask for, seen items")
    arguments = parser.parse_args()
    if arguments.name == "service":
        return _service(arguments)
    failed = False
    for name in guided.TARGETS if arguments.name == "all" else (arguments.name,):
        runs = arguments.runs or guided.TARGETS[name].runs
        outcome = guided.fuzz(name, runs, arguments.seed)
        print(outcome.line(), flush=True)
        if outcome.failure:
            failed = True
            print(outcome.failure, file=sys.stderr)
    return int(failed)


def _service(arguments: argparse.Namespace) -> int:
    from tests.fuzz.service import attack, seen_of, token_of

    tally = attack(
        arguments.address,
        arguments.requests,
        seed=arguments.seed,
        under_way=arguments.under_way,
        token=token_of(arguments.token_file),
        ca=arguments.ca_file.read_bytes() if arguments.ca_file else None,
        seen=seen_of(arguments.seen),
    )
    print(tally.line())
    for what, count in tally.breaches.items():
        print(f"{what}: {count:,}", file=sys.stderr)
    for what, request in tally.examples.items():
        print(f"{what}: {request.method} {request.data[:400].hex()}", file=sys.stderr)
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
