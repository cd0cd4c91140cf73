"""Parses the command line, runs the command and reports its errors."""

import argparse
import logging
import sys
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console

from trainer.cli import gc, index, promote, refresh, rollback, run, tune, verify, versions
from trainer.errors import TrainerError


class Command(Protocol):
    """A module of this package that implements one command."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: argparse.Namespace, console: Console) -> None:
        """Run the command.

        Raises:
            TrainerError: the command failed.
            OSError: a file cannot be read or written.
        """


COMMANDS: Mapping[str, Command] = {
    "run": run,
    "tune": tune,
    "index": index,
    "refresh": refresh,
    "versions": versions,
    "promote": promote,
    "rollback": rollback,
    "gc": gc,
    "verify": verify,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m trainer``."""
    main = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train retrieval models and publish them for TensorFlow Serving.",
    )
    subparsers = main.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
    return main


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return 0, or 1 after printing an error to standard error."""
    parsed = parser().parse_args(arguments)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        COMMANDS[parsed.command].run(parsed, Console(highlight=False))
    except (TrainerError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
