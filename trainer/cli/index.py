"""The command ``index``."""

import argparse

from rich.console import Console

from trainer import config
from trainer.cli.arguments import add_file, add_models_dir, add_set
from trainer.data import vectors
from trainer.errors import ConfigError

HELP = "Publish an index of vectors from another program."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(
        parser,
        "--embeddings",
        "Read the item vectors from this .npy or .parquet file.",
        required=True,
    )
    add_file(
        parser,
        "--ids",
        "Read the item ids, in the order of the vectors, from this .txt, .csv, .parquet or .npy "
        "file.",
        required=True,
    )
    add_file(
        parser,
        "--queries",
        "Tune the index with typical query vectors from this .npy or .parquet file. The default is "
        "to use the item vectors.",
    )
    add_models_dir(parser)
    add_set(parser, "index.KEY=VALUE")


def run(arguments: argparse.Namespace, console: Console) -> None:
    if other := [text for text in arguments.set if not text.startswith("index.")]:
        raise ConfigError(f"{other[0]}: this command takes only settings that begin with 'index.'")
    settings = config.load(settings=arguments.set)
    item_ids = vectors.load_ids(arguments.ids)
    embeddings = vectors.load(arguments.embeddings)
    queries = None if arguments.queries is None else vectors.load(arguments.queries)
    from trainer.pipelines.index import index

    name = arguments.embeddings.stem
    index(name, item_ids, embeddings, queries, settings, arguments.models_dir, console)
