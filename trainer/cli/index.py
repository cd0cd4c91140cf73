"""The command ``index``."""

import argparse
from pathlib import Path

from rich.console import Console

from trainer import config
from trainer.cli.arguments import add_models_dir, add_set
from trainer.data import vectors
from trainer.errors import ConfigError

HELP = "Publish an index of vectors that another program made."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        required=True,
        help="Read the item vectors from this .npy or .parquet file.",
    )
    parser.add_argument(
        "--ids",
        type=Path,
        metavar="FILE",
        required=True,
        help="Read the item ids, in the order of the vectors, from this .txt, .csv, .parquet or "
        ".npy file.",
    )
    parser.add_argument(
        "--queries",
        type=Path,
        metavar="FILE",
        help="Tune the index with typical query vectors from this .npy or .parquet file. The "
        "default is to use the item vectors.",
    )
    add_models_dir(parser)
    add_set(parser, "index.KEY=VALUE")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Publish an index of vectors."""
    if other := [one for one in arguments.set if not one.startswith("index.")]:
        raise ConfigError(f"{other[0]}: this command has only settings that begin with 'index.'")
    settings = config.load("default", arguments.set, None)
    item_ids = vectors.load_ids(arguments.ids)
    embeddings = vectors.load(arguments.embeddings)
    queries = None if arguments.queries is None else vectors.load(arguments.queries)
    from trainer.pipelines.index import index

    index(
        arguments.embeddings.stem,
        item_ids,
        embeddings,
        queries,
        settings,
        arguments.models_dir,
        console,
    )
