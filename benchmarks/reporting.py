"""Command lines, tables and JSON files that all benchmarks share."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table


def argument_parser(module: str, docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser for ``python -m module`` with the docstring's first line as description."""
    description = (docstring or "").partition("\n")[0]
    return argparse.ArgumentParser(prog=f"python -m {module}", description=description)


def add_option(parser: argparse.ArgumentParser, name: str, default: Any, text: str) -> None:
    """Add an option with the help ``text``, the default, and the type of the default.

    If the default is a list, the option takes one or more values of its element type.
    """
    is_list = isinstance(default, list)
    shown = " ".join(map(str, default)) if is_list else default
    parser.add_argument(
        name,
        type=type(default[0] if is_list else default),
        nargs="+" if is_list else None,
        default=default,
        help=f"{text} (default: {shown}).",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json``, which :func:`write_json` reads."""
    parser.add_argument("--json", type=Path, help="Write all results to this JSON file.")


def console() -> Console:
    """Return a console that is wide enough for the tables even if the output goes to a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def table(title: str, *columns: str) -> Table:
    """Return an empty table whose columns, except for the first two, are right-aligned."""
    output = Table(title=title)
    for number, name in enumerate(columns):
        output.add_column(name, justify="right" if number > 1 else "left")
    return output


def write_json(arguments: argparse.Namespace, packages: Iterable[str], **results: Any) -> None:
    """Write the machine, the options and the results of a run to the ``--json`` file, if given."""
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items()}
        content = {"machine": machine(*packages), "options": options, **results}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def machine(*packages: str) -> str:
    """Describe the cores, the processor, and the versions of Python and installed packages."""
    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    return f"{os.cpu_count()} cores, {cpu}; {', '.join(versions)}"


def percentile(values: ArrayLike, percent: float) -> float:
    """Return the smallest value that ``percent`` % of the values do not exceed (nearest rank)."""
    return float(np.percentile(np.asarray(values, float), percent, method="inverted_cdf"))


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return the text "median (lowest-highest)"."""
    median, lowest, highest = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({lowest:,.{digits}f}-{highest:,.{digits}f})"
