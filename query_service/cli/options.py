"""The options and the error output of commands that call a running service."""

import argparse
import sys

from rpc import credentials


def add_service_options(command: argparse.ArgumentParser) -> None:
    """Add the address of the service, the timeout, and the credentials."""
    command.add_argument(
        "--address",
        default="127.0.0.1:50051",
        metavar="HOST:PORT",
        help="Address of the running service. (default: %(default)s)",
    )
    command.add_argument(
        "--timeout-s",
        type=float,
        default=5.0,
        metavar="S",
        help="Longest time in seconds to wait for an answer. (default: %(default)s)",
    )
    credentials.add_options(command)


def fail(message: str) -> int:
    """Write an error message to standard error and return the exit status 1."""
    sys.stderr.write(f"error: {message}\n")
    return 1
