"""Parses the command line, runs the command and reports its errors."""

import argparse
import logging
import sys

from rich.console import Console

from trainer.cli import gc, index, promote, refresh, rollback, run, tune, verify, versions
from trainer.errors import TrainerError

_COMMANDS = {
    command.__name__.rpartition(".")[2]: command
    for command in (run, tune, index, refresh, versions, promote, rollback, gc, verify)
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m trainer``."""
    main = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train retrieval models and publish them for TensorFlow Serving.",
    )
    subparsers = main.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
    return main


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Return 0, or print an error to standard error and return 1."""
    parsed = parser().parse_args(arguments)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        _COMMANDS[parsed.command].run(parsed, Console(highlight=False))
    except (TrainerError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
