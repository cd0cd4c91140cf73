"""The command ``refresh``."""

import argparse

from rich.console import Console

from trainer.cli.arguments import add_file, add_models_dir
from trainer.errors import DataError

HELP = "Publish a version with added, changed or removed items, without training."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_dir(parser)
    add_file(
        parser,
        "--items",
        "Add and update the items in this .csv or .parquet file, with the columns item_id, every "
        "feature that the model uses and, optionally, title.",
    )
    add_file(
        parser,
        "--remove",
        "Remove the items in this .csv or .parquet file, with the column item_id.",
    )
    parser.add_argument(
        "--version",
        type=int,
        metavar="V",
        help="Start from this version. The default is the served one.",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    if arguments.items is None and arguments.remove is None:
        raise DataError("refresh needs --items, --remove, or both")
    from trainer.pipelines.refresh import refresh

    refresh(
        arguments.models_dir,
        console,
        items=arguments.items,
        remove=arguments.remove,
        version=arguments.version,
    )
