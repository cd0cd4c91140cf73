"""The command ``gc``."""

import argparse

from rich.console import Console

from trainer.cli.arguments import add_models_dir, positive_int
from trainer.registry.promotion import collect_garbage
from trainer.registry.store import Store

HELP = "Remove old versions, but never the served one or the one that a rollback would serve."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_dir(parser)
    parser.add_argument(
        "--keep",
        type=positive_int,
        metavar="N",
        default=3,
        help="Keep this many of the newest versions. The default is %(default)s.",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    store = Store.open_existing(arguments.models_dir)
    removed = ", ".join(map(str, collect_garbage(store, arguments.keep))) or "none"
    remaining = ", ".join(map(str, store.versions())) or "none"
    console.print(f"Removed versions: {removed}. Remaining versions: {remaining}")
