"""What came out: a table for people, rows of docs/reliability.md, JSON."""

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
from benchmarks.chaos.processes import ROOT

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"


@dataclass
class Result:
    """What one scenario gave.

    Attributes:
        name: of the scenario.
        title: what is done.
        checks: in the order of the report.
        broken: why it could not be played; empty where it was.
        seconds: that it took.
    """

    name: str
    title: str
    checks: list[Check] = field(default_factory=list)
    broken: str = ""
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether it was played and every bound was kept."""
        return not self.broken and all(one.held for one in self.checks)


def table(result: Result) -> Table:
    """For a terminal."""
    title = f"{result.name}: {result.title} ({result.seconds:.0f} s)"
    made = Table("", "what", "measured", "bound", title=escape(title), title_justify="left")
    if result.broken:
        made.add_row("[red]no[/]", "it could not be played", escape(result.broken), "")
    for one in result.checks:
        mark = ("[green]yes[/]" if one.held else "[red]no[/]") if one.bound else ""
        made.add_row(mark, escape(one.what), escape(one.measured), escape(one.bound))
    return made


def keep(results: Sequence[Result], path: Path, flags: str) -> dict[str, Any]:
    """Put the results of a run with these flags beside those of other scenarios; all of them."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for one in results:
        known[one.name] = asdict(one) | {"held": one.held, "run": _run(flags)}
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return known


def document(known: Mapping[str, Any], order: Sequence[str], path: Path) -> None:
    """Write the rows between the two marks of a document.

    Raises:
        ValueError: it does not have both.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks {BEGIN} or {END}")
    lines = ["| | measured | bound | held |", "|---|---|---|---|"]
    for name in order:
        if name in known:
            lines += _rows(known[name])
    runs: dict[str, list[str]] = {}
    for name in order:
        if name in known:
            runs.setdefault(known[name]["run"], []).append(name)
    played = [f"- {run}: {', '.join(names)}." for run, names in sorted(runs.items())]
    text = "\n".join([*lines, "", *played])
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _rows(result: Mapping[str, Any]) -> list[str]:
    rows = [f"| **{result['name']}**: {result['title']} | | | |"]
    if result["broken"]:
        rows.append(f"| could not be played | {_cell(result['broken'])} | | **no** |")
    for one in result["checks"]:
        held = ("yes" if one["held"] else "**no**") if one["bound"] else ""
        rows.append(
            f"| {_cell(one['what'])} | {_cell(one['measured'])} | {_cell(one['bound'])} | {held} |"
        )
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _run(flags: str) -> str:
    """When, what, where and how."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    day = datetime.now(UTC).date().isoformat()
    python = platform.python_version()
    return f"{day}, commit {commit or 'unknown'}, {os.cpu_count()} cores, Python {python}, {flags}"
