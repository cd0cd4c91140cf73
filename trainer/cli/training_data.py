"""The arguments of ``run`` and ``tune`` that name the training data and the configuration."""

import argparse
from pathlib import Path

from rich.console import Console

from trainer import config
from trainer.cli.arguments import add_file, add_set
from trainer.data import source
from trainer.data.types import Dataset
from trainer.errors import DataError

_DEFAULT_PRESET = "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the training data and the configuration."""
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--dataset",
        choices=source.DATASETS,
        help="Use a named data set. 'auto' is MovieLens 100K if it is on this machine or can be "
        "downloaded, and synthetic data otherwise.",
    )
    data.add_argument(
        "--interactions",
        type=Path,
        metavar="FILE",
        help="Use your own interactions, a .csv or .parquet file with the columns user_id and "
        "item_id and, optionally, timestamp and rating.",
    )
    add_file(
        parser,
        "--items",
        "Read the catalogue for --interactions from this file, with the column item_id and, "
        "optionally, title and features.",
    )
    add_file(
        parser,
        "--users",
        "Read user features for --interactions from this file, with the column user_id.",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="Read MovieLens 100K from this directory, which contains its unpacked files.",
    )
    parser.add_argument(
        "--config",
        metavar="FILE|PRESET",
        help=f"Use the settings of a TOML file or of a preset ({', '.join(config.PRESETS)}). The "
        f"default is the preset with the name of the --dataset if there is one, and "
        f"'{_DEFAULT_PRESET}' otherwise.",
    )
    add_set(parser, "SECTION.KEY=VALUE")
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="Use this seed for all random choices, instead of the configured seed.",
    )


def load(arguments: argparse.Namespace, console: Console) -> tuple[Dataset, config.Config]:
    """Load the data and the configuration that the arguments name.

    Raises:
        ConfigError: the configuration cannot be used.
        DataError: the data cannot be used.
    """
    if arguments.interactions is None and (arguments.items or arguments.users):
        raise DataError("--items and --users need --interactions")
    # Load the configuration first, so that a mistyped setting fails before data is loaded.
    settings = config.load(arguments.config or _DEFAULT_PRESET, arguments.set, arguments.seed)
    dataset = source.load(
        arguments.dataset,
        interactions=arguments.interactions,
        items=arguments.items,
        users=arguments.users,
        data_dir=arguments.data_dir,
        notify=lambda text: console.print(text, markup=False),
    )
    # A file of interactions may coincidentally have the name of a preset.
    is_named = arguments.dataset is not None
    if arguments.config is None and is_named and dataset.name in config.PRESETS:
        settings = config.load(dataset.name, arguments.set, arguments.seed)
    return dataset, settings
