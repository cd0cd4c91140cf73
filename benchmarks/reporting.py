"""Command lines, tables, plots and JSON files that all benchmarks share."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def argument_parser(module: str, docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser for ``python -m module``, described by the first line of its docstring."""
    description = (docstring or "").partition("\n")[0]
    return argparse.ArgumentParser(prog=f"python -m {module}", description=description)


JSON = ("--json", Path, None, "Write all results to this JSON file.")
PLOT = ("--plot", Path, None, "Draw a plot to this .png or .svg file.")


def add_options(
    parser: argparse.ArgumentParser, *options: tuple[str, Callable[[str], Any], Any, str]
) -> None:
    """Add options of one value: name, type, default and help."""
    for name, kind, default, text in options:
        text = text if default is None else f"{text} (default: {default})"
        parser.add_argument(name, type=kind, default=default, help=text)


def console() -> Console:
    """Return a console, which is wide enough for the tables if the output goes to a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def write_json(path: Path, results: Any) -> None:
    """Write the results of a run."""
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def machine(packages: Sequence[str], *more: str) -> dict[str, Any]:
    """Return cores, processor, and the versions of those packages that are installed."""
    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = ""
    if (information := Path("/proc/cpuinfo")).exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        cpu = next((one.split(": ")[1] for one in lines if one.startswith("model name")), "")
    return {"cores": os.cpu_count(), "cpu": cpu, "versions": ", ".join([*versions, *more])}


def describe_machine(facts: dict[str, Any]) -> str:
    """Return the facts of :func:`machine` as a line of text."""
    return f"{facts['cores']} cores, {facts['cpu']}; {facts['versions']}"


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return "median (lowest-highest)"."""
    median, lowest, highest = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({lowest:,.{digits}f}-{highest:,.{digits}f})"


def line_style(*, ours: bool) -> dict[str, Any]:
    """Return the style of a line in a plot: ours are black with stars."""
    if ours:
        return {"marker": "*", "markersize": 14, "color": "black", "zorder": 3}
    return {"marker": "o", "markersize": 4, "zorder": 2}


def save_figure(figure: "Figure", path: Path, legend_columns: int, axes: Any) -> None:
    """Write a figure with the legend of ``axes`` below it."""
    import matplotlib as mpl

    mpl.rcParams["svg.fonttype"] = "none"
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=legend_columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
