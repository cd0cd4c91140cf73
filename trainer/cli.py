"""The trainer's command line."""

import argparse
import logging
import sys
from pathlib import Path

from rich.console import Console

from trainer import config
from trainer.data import source
from trainer.data.types import DataError


def parser() -> argparse.ArgumentParser:
    """``python -m trainer`` and its arguments."""
    main = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, evaluate, export, verify, publish")
    data = run.add_mutually_exclusive_group(required=True)
    data.add_argument("--dataset", choices=source.DATASETS, help="auto: MovieLens or synthetic")
    data.add_argument(
        "--interactions", type=Path, metavar="FILE", help="your own, .csv or .parquet"
    )
    run.add_argument("--items", type=Path, metavar="FILE", help="item_id, title, features")
    run.add_argument("--users", type=Path, metavar="FILE", help="user_id, features")
    run.add_argument("--data-dir", type=Path, metavar="DIR", help="the unpacked MovieLens 100K")
    run.add_argument("--models-dir", type=Path, metavar="DIR", required=True)
    run.add_argument(
        "--config",
        default="default",
        metavar="FILE|PRESET",
        help=f"a TOML file, or one of: {', '.join(config.PRESETS)}",
    )
    run.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    run.add_argument("--seed", type=int, metavar="N")
    run.add_argument("--log-dir", type=Path, metavar="DIR", help="write TensorBoard's logs there")
    return main


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 1 with a message on standard error."""
    parsed = parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        if parsed.interactions is None and (parsed.items or parsed.users):
            raise DataError("--items and --users go with --interactions")
        # Before anything slow: a mistyped setting should not cost a wait.
        settings = config.load(parsed.config, parsed.set, parsed.seed)
        dataset = source.load(
            parsed.dataset,
            interactions=parsed.interactions,
            items=parsed.items,
            users=parsed.users,
            data_dir=parsed.data_dir,
            notice=lambda text: console.print(text, markup=False),
        )
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        # After everything that can be mistyped: TensorFlow takes seconds to import.
        from trainer import run, verify

        try:
            run.run(dataset, settings, parsed.models_dir, console, parsed.log_dir)
        except verify.VerificationError as error:
            return _failed(f"not published: {error}")
    except (DataError, config.ConfigError, OSError) as error:
        return _failed(str(error))
    return 0


def _failed(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1
