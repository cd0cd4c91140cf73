"""The command ``run``."""

import argparse
from pathlib import Path

from rich.console import Console

from trainer.cli import training_data
from trainer.cli.arguments import add_models_dir

HELP = "Train a model, evaluate it, and publish it if it passes its quality gate."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    training_data.add_arguments(parser)
    add_models_dir(parser)
    parser.add_argument(
        "--log-dir", type=Path, metavar="DIR", help="Write TensorBoard logs into this directory."
    )
    parser.add_argument(
        "--override-gate",
        metavar="REASON",
        help="Publish the model even if its recall or quality is too low. The reason is recorded.",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    dataset, settings = training_data.load(arguments, console)
    from trainer.pipelines.run import run as train_and_publish

    train_and_publish(
        dataset, settings, arguments.models_dir, console, arguments.log_dir, arguments.override_gate
    )
