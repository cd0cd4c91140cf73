"""``refresh`` on the command line."""

import argparse
from pathlib import Path

from rich.console import Console

from trainer.data.types import DataError


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command and its arguments; ``manages`` is what it does."""
    command = commands.add_parser("refresh", help="add, change and remove items without training")
    command.set_defaults(manages=_refresh)
    command.add_argument("--models-dir", type=Path, metavar="DIR", required=True)
    command.add_argument(
        "--items", type=Path, metavar="FILE", help="new and changed ones: item_id, title, features"
    )
    command.add_argument("--remove", type=Path, metavar="FILE", help="item_id of those to remove")
    command.add_argument(
        "--version", type=int, metavar="V", help="start from it; default: the served one"
    )


def _refresh(parsed: argparse.Namespace, console: Console) -> None:
    if parsed.items is None and parsed.remove is None:
        raise DataError("refresh takes --items, --remove, or both")
    # TensorFlow takes seconds to import: after everything that can be mistyped.
    from trainer.pipelines import refresh as refreshing

    refreshing.refresh(
        parsed.models_dir,
        console,
        items=parsed.items,
        remove=parsed.remove,
        version=parsed.version,
    )
