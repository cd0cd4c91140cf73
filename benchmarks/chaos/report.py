"""The results as a table on the terminal, as rows of docs/reliability.md, and as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from benchmarks.chaos.checks import Check
from tools.processes import ROOT

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"


@dataclass
class Result:
    """The result of one scenario.

    Attributes:
        name: name of the scenario.
        title: what it does.
        checks: its checks, in the order of the report.
        error: why it could not be run; empty if it was run.
        seconds: how long it took.
    """

    name: str
    title: str
    checks: list[Check] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Tell whether the scenario was run and kept all bounds."""
        return not self.error and all(check.held for check in self.checks)


def table(result: Result) -> Table:
    """Return the table of one scenario for a terminal."""
    title = f"{result.name}: {result.title} ({result.seconds:.0f} s)"
    rows = Table("", "what", "measured", "bound", title=escape(title), title_justify="left")
    if result.error:
        rows.add_row("[red]no[/]", "could not be run", escape(result.error), "")
    for check in result.checks:
        mark = ("[green]yes[/]" if check.held else "[red]no[/]") if check.bound else ""
        rows.add_row(mark, escape(check.what), escape(check.measured), escape(check.bound))
    return rows


def save(result: Result, path: Path, settings: str) -> dict[str, Any]:
    """Add a result to the JSON file of all scenarios; return everything in it."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[result.name] = asdict(result) | {"held": result.held, "run": _describe_run(settings)}
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return known


def write_document(known: Mapping[str, Any], order: Sequence[str], path: Path) -> None:
    """Write the results between the two marks of a document.

    Raises:
        ValueError: the document lacks a mark.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks {BEGIN} or {END}")
    names = [name for name in order if name in known]
    lines = ["| | measured | bound | held |", "|---|---|---|---|"]
    runs: dict[str, list[str]] = {}
    for name in names:
        lines += _rows(known[name])
        runs.setdefault(known[name]["run"], []).append(name)
    lines += ["", *(f"- {run}: {', '.join(names)}." for run, names in sorted(runs.items()))]
    text = "\n".join(lines)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _rows(result: Mapping[str, Any]) -> list[str]:
    rows = [f"| **{result['name']}**: {result['title']} | | | |"]
    if result["error"]:
        rows.append(f"| could not be run | {_cell(result['error'])} | | **no** |")
    for one in result["checks"]:
        held = ("yes" if one["held"] else "**no**") if one["bound"] else ""
        cells = (_cell(one[column]) for column in ("what", "measured", "bound"))
        rows.append(f"| {' | '.join(cells)} | {held} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _describe_run(settings: str) -> str:
    """Return date, commit, machine and settings of a run."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    day = datetime.now(UTC).date().isoformat()
    python = platform.python_version()
    cores = os.cpu_count()
    return f"{day}, commit {commit or 'unknown'}, {cores} cores, Python {python}, {settings}"
