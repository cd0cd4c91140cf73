"""The command ``rollback``."""

import argparse

from rich.console import Console

from trainer.cli.arguments import add_models_dir, nonempty, positive_int
from trainer.registry import promotion
from trainer.registry.store import Store

HELP = "Serve the previously served version again."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_dir(parser)
    parser.add_argument(
        "--to",
        type=positive_int,
        metavar="VERSION",
        help="Serve this version, which must have been served before, instead of the previous one.",
    )
    parser.add_argument(
        "--reason", metavar="TEXT", type=nonempty, help="Record why the version is served."
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    store = Store.open_existing(arguments.models_dir)
    version, before = promotion.rollback(store, arguments.to, arguments.reason)
    console.print(f"Version {version} is served instead of {before}")
