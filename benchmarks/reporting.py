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
    """Return a parser for ``python -m module``, described by the first line of its docstring."""
    description = (docstring or "").partition("\n")[0]
    return argparse.ArgumentParser(prog=f"python -m {module}", description=description)


def add_option(parser: argparse.ArgumentParser, name: str, default: Any, text: str) -> None:
    """Add an option of the type of its default, which its help ends with.

    If the default is a list, the option takes one or more values.
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
    """Return a console, which is wide enough for the tables if the output goes to a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def table(title: str, *columns: str) -> Table:
    """Return an empty table; all columns except for the first two are aligned to the right."""
    made = Table(title=title)
    for number, name in enumerate(columns):
        made.add_column(name, justify="right" if number > 1 else "left")
    return made


def write_json(arguments: argparse.Namespace, packages: Iterable[str], **results: Any) -> None:
    """Write machine, options and results of a run to the file of ``--json``, if there is one."""
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items()}
        content = {"machine": machine(*packages), "options": options, **results}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def machine(*packages: str) -> str:
    """Return cores, processor, and the versions of those packages that are installed, as text."""
    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        cpu = next((one.split(": ")[1] for one in lines if one.startswith("model name")), cpu)
    return f"{os.cpu_count()} cores, {cpu}; {', '.join(versions)}"


def percentile(values: ArrayLike, percent: float) -> float:
    """Return the nearest rank: the smallest value that ``percent`` of the values do not exceed."""
    return float(np.percentile(np.asarray(values, float), percent, method="inverted_cdf"))


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return "median (lowest-highest)"."""
    median, lowest, highest = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({lowest:,.{digits}f}-{highest:,.{digits}f})"
