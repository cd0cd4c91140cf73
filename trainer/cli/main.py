"""The trainer's command line."""

import argparse
import logging
import math
import shlex
import sys
from pathlib import Path

from rich.console import Console

from trainer import config
from trainer.cli import refresh as refresh
from trainer.cli import versions as lifecycle
from trainer.data import source, vectors
from trainer.data.types import DataError, Dataset
from trainer.errors import LifecycleError, VerificationError
from trainer.index import IndexTuningError
from trainer.tuning import measures as metrics

_DEFAULT_PRESET = "default"


def parser() -> argparse.ArgumentParser:
    """``python -m trainer`` and its arguments."""
    main = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="train, evaluate, export, verify, publish")
    run.set_defaults(does=_run)
    _add_input(run)
    run.add_argument("--models-dir", type=Path, metavar="DIR", required=True)
    run.add_argument("--log-dir", type=Path, metavar="DIR", help="write TensorBoard's logs there")
    run.add_argument(
        "--override-gate",
        metavar="REASON",
        help="publish even if recall or quality fall short; the reason is recorded",
    )

    tune = commands.add_parser("tune", help="search for a better configuration, for so long")
    tune.set_defaults(does=_tune)
    _add_input(tune)
    tune.add_argument("--budget-minutes", type=_positive, metavar="N", required=True)
    tune.add_argument("--trials", type=_count, metavar="N", help="at the most; default: any number")
    tune.add_argument(
        "--metric", choices=metrics.METRICS, default=metrics.DEFAULT, help="what is to be high"
    )
    tune.add_argument(
        "--output", type=Path, metavar="FILE.toml", required=True, help="the best, for --config"
    )

    index = commands.add_parser("index", help="publish vectors that were made elsewhere")
    index.set_defaults(manages=_index)
    index.add_argument(
        "--embeddings", type=Path, metavar="FILE", required=True, help="of items, .npy or .parquet"
    )
    index.add_argument(
        "--ids", type=Path, metavar="FILE", required=True, help=".txt, .csv, .parquet or .npy"
    )
    index.add_argument(
        "--queries",
        type=Path,
        metavar="FILE",
        help="vectors like those to come, .npy or .parquet; without it the items' own",
    )
    index.add_argument("--models-dir", type=Path, metavar="DIR", required=True)
    index.add_argument("--set", action="append", default=[], metavar="index.KEY=VALUE")
    lifecycle.add(commands)
    refresh.add(commands)
    return main


def _add_input(command: argparse.ArgumentParser) -> None:
    """The data and the configuration."""
    data = command.add_mutually_exclusive_group(required=True)
    data.add_argument("--dataset", choices=source.DATASETS, help="auto: MovieLens or synthetic")
    data.add_argument(
        "--interactions", type=Path, metavar="FILE", help="your own, .csv or .parquet"
    )
    command.add_argument("--items", type=Path, metavar="FILE", help="item_id, title, features")
    command.add_argument("--users", type=Path, metavar="FILE", help="user_id, features")
    command.add_argument("--data-dir", type=Path, metavar="DIR", help="the unpacked MovieLens 100K")
    command.add_argument(
        "--config",
        metavar="FILE|PRESET",
        help=f"a TOML file, or one of: {', '.join(config.PRESETS)}; without it the preset of "
        f"the --dataset's name, or else {_DEFAULT_PRESET}",
    )
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    command.add_argument("--seed", type=int, metavar="N")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 1 with a message on standard error."""
    parsed = parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        if "manages" in parsed:
            return _manage(parsed, console)
        if parsed.interactions is None and (parsed.items or parsed.users):
            raise DataError("--items and --users go with --interactions")
        # Before anything slow: a mistyped setting should not cost a wait.
        settings = config.load(parsed.config or _DEFAULT_PRESET, parsed.set, parsed.seed)
        dataset = source.load(
            parsed.dataset,
            interactions=parsed.interactions,
            items=parsed.items,
            users=parsed.users,
            data_dir=parsed.data_dir,
            notice=lambda text: console.print(text, markup=False),
        )
        if parsed.config is None:
            # A file that happens to be called like a preset is other data.
            own = parsed.interactions is None and dataset.name in config.PRESETS
            parsed.config = dataset.name if own else _DEFAULT_PRESET
            settings = config.load(parsed.config, parsed.set, parsed.seed)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        code: int = parsed.does(parsed, dataset, settings, console)
    except VerificationError as error:
        return _failed(f"not published: {error}")
    except (DataError, config.ConfigError, IndexTuningError, LifecycleError, OSError) as error:
        return _failed(str(error))
    return code


def _manage(parsed: argparse.Namespace, console: Console) -> int:
    """A command that learns nothing: on what was published, or is made of vectors."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parsed.manages(parsed, console)
    return 0


# TensorFlow takes seconds to import, so the commands do it after everything that can be mistyped.


def _index(parsed: argparse.Namespace, console: Console) -> None:
    if other := [one for one in parsed.set if not one.startswith("index.")]:
        raise config.ConfigError(f"{other[0]}: only index. can be set here")
    settings = config.load(_DEFAULT_PRESET, parsed.set, None)
    item_ids = vectors.load_ids(parsed.ids)
    embeddings = vectors.load(parsed.embeddings)
    queries = None if parsed.queries is None else vectors.load(parsed.queries)
    from trainer.pipelines import index as indexing

    indexing.index(
        parsed.embeddings.stem, item_ids, embeddings, queries, settings, parsed.models_dir, console
    )


def _run(
    parsed: argparse.Namespace, dataset: Dataset, settings: config.Config, console: Console
) -> int:
    from trainer.pipelines import run

    run.run(dataset, settings, parsed.models_dir, console, parsed.log_dir, parsed.override_gate)
    return 0


def _tune(
    parsed: argparse.Namespace, dataset: Dataset, settings: config.Config, console: Console
) -> int:
    from trainer.tuning import search, tune

    goal = tune.Goal(
        parsed.metric,
        search.Limits(parsed.budget_minutes * 60, parsed.trials),
        parsed.output,
        config.preset_of(parsed.config),
    )
    try:
        tune.tune(dataset, settings, goal, console)
    except search.TuningError as error:
        return _failed(str(error))
    console.print(f"Wrote {parsed.output}. To train with it:", markup=False)
    console.print(_next_command(parsed), markup=False, soft_wrap=True)
    return 0


def _next_command(parsed: argparse.Namespace) -> str:
    """``run`` on the same data with what was found."""
    words = ["python", "-m", "trainer", "run"]
    for name in ("dataset", "data_dir", "interactions", "items", "users"):
        if (value := getattr(parsed, name)) is not None:
            words += ["--" + name.replace("_", "-"), str(value)]
    words += ["--config", str(parsed.output), "--models-dir", "models"]
    return shlex.join(words)


def _positive(text: str) -> float:
    value = float(text)
    # A NaN is not above 0 either.
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def _failed(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1
