"""Command lines, tables, plots and JSON files that all benchmarks share."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


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


def add_peers(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the option ``--peers``."""
    text = f"The peers to measure: {', '.join(names)} (default: all)."
    parser.add_argument(
        "--peers", nargs="+", choices=names, default=names, metavar="NAME", help=text
    )


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
        said = {"machine": machine(*packages), "options": options, **results}
        arguments.json.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def machine(*packages: str) -> str:
    """Return cores, processor, and the versions of those packages that are installed, as text."""
    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = platform.machine()
    if (information := Path("/proc/cpuinfo")).exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        cpu = next((one.split(": ")[1] for one in lines if one.startswith("model name")), cpu)
    return f"{os.cpu_count()} cores, {cpu}; {', '.join(versions)}"


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return "median (lowest-highest)"."""
    median, lowest, highest = statistics.median(values), min(values), max(values)
    return f"{median:,.{digits}f} ({lowest:,.{digits}f}-{highest:,.{digits}f})"


def plot(
    path: Path,
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    ours: str,
    **axis: str,
) -> None:
    """Draw points by name in a panel for each title, both axes logarithmic.

    Lines whose name begins with ``ours`` are black with stars; ``axis`` has labels and scales.
    """
    from matplotlib import pyplot as plt

    size = (5 * len(panels), 5)
    figure, places = plt.subplots(1, len(panels), figsize=size, layout="constrained")
    for place, (title, lines) in zip(places, panels.items(), strict=True):
        for name, points in lines.items():
            style = {"marker": "*", "color": "black"} if name.startswith(ours) else {"marker": "."}
            place.plot(*zip(*points, strict=True), label=name, **style)
        place.set(**{"title": title, "xscale": "log", "yscale": "log"} | axis)
        place.grid(axis="y", color="0.92")
    handles, names = places[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
