"""The command ``tune``."""

import argparse
import shlex
from pathlib import Path

from rich.console import Console

from trainer.cli import training_data
from trainer.cli.arguments import positive_float, positive_int
from trainer.tuning import DEFAULT_METRIC, METRICS

HELP = "Search for better settings within a time budget."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    training_data.add_arguments(parser)
    parser.add_argument(
        "--budget-minutes",
        type=positive_float,
        metavar="N",
        required=True,
        help="Stop the search after this many minutes.",
    )
    parser.add_argument(
        "--trials",
        type=positive_int,
        metavar="N",
        help="Run at most this many trials. The default is no limit.",
    )
    parser.add_argument(
        "--metric",
        choices=METRICS,
        default=DEFAULT_METRIC,
        help="Maximize this metric on validation rows. The default is %(default)s.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.toml",
        required=True,
        help="Write the best settings to this file, for the flag --config of `run`.",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    dataset, settings = training_data.load(arguments, console)
    from trainer.tuning import pipeline

    pipeline.tune(
        dataset,
        settings,
        console,
        metric=arguments.metric,
        budget_s=arguments.budget_minutes * 60,
        max_trials=arguments.trials,
        output=arguments.output,
    )
    console.print(f"Wrote {arguments.output}. To train with it:", markup=False)
    console.print(_run_command(arguments), markup=False, soft_wrap=True)


def _run_command(arguments: argparse.Namespace) -> str:
    """Return the command that trains with the best settings on the same data."""
    words = ["python", "-m", "trainer", "run"]
    for name in ("dataset", "data_dir", "interactions", "items", "users"):
        if (value := getattr(arguments, name)) is not None:
            words += ["--" + name.replace("_", "-"), str(value)]
    words += ["--config", str(arguments.output), "--models-dir", "models"]
    return shlex.join(words)
