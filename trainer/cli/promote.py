"""The command ``promote``."""

import argparse

from rich.console import Console

from trainer.cli.arguments import add_models_dir, nonempty, positive_int
from trainer.registry import promotion
from trainer.registry.store import Store

HELP = "Serve any version, after comparing its files with their checksums."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_dir(parser)
    parser.add_argument("version", type=positive_int, help="The number of the version to serve.")
    parser.add_argument(
        "--reason",
        metavar="TEXT",
        type=nonempty,
        help="Record why the version is served. Required if it did not pass its quality gate.",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    store = Store.open_existing(arguments.models_dir)
    before = promotion.promote(store, arguments.version, arguments.reason)
    instead = "" if before is None else f" instead of {before}"
    console.print(f"Version {arguments.version} is served{instead}")
