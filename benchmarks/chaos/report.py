"""The results as a table on the terminal, as rows of docs/reliability.md, and as JSON."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from benchmarks import reporting
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
    made = Table("", "measured", "bound", "held", title=escape(title), title_justify="left")
    for row in _rows(asdict(result)):
        made.add_row(*map(escape, row))
    return made


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
    lines = ["| | measured | bound | held |", "|---|---|---|---|"]
    runs: dict[str, list[str]] = {}
    for name in (name for name in order if name in known):
        result = known[name]
        lines.append(f"| **{name}**: {result['title']} | | | |")
        for row in _rows(result):
            cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in row)
            lines.append(f"| {' | '.join(cells)} |")
        runs.setdefault(result["run"], []).append(name)
    lines += ["", *(f"- {run}: {', '.join(names)}." for run, names in sorted(runs.items()))]
    text = "\n".join(lines)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield a figure, what was measured, its bound, and whether that was kept."""
    if result["error"]:
        yield "could not be run", result["error"], "", "**no**"
    for one in result["checks"]:
        held = ("yes" if one["held"] else "**no**") if one["bound"] else ""
        yield one["what"], one["measured"], one["bound"], held


def _describe_run(settings: str) -> str:
    """Return date, commit, machine and settings of a run."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    day = datetime.now(UTC).date().isoformat()
    commit = git.stdout.strip() or "unknown"
    return f"{day}, commit {commit}, {reporting.machine()}; {settings}"
