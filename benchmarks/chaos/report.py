"""Writes results as tables to the terminal and to docs/reliability.md, and as JSON to a file."""

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
        name: the name of the scenario.
        title: a description of the scenario.
        checks: the checks of the scenario, in the order of the report.
        error: the reason why the scenario could not be completed, or an empty text.
        seconds: the duration of the scenario.
    """

    name: str
    title: str
    checks: list[Check] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Return True if the scenario was completed and all its checks passed."""
        return not self.error and all(check.passed for check in self.checks)


def table(result: Result) -> Table:
    """Return the table of one scenario for the terminal."""
    title = f"{result.name}: {result.title} ({result.seconds:.0f} s)"
    output = Table("", "measured", "bound", "passed", title=escape(title), title_justify="left")
    for row in _rows(asdict(result)):
        output.add_row(*map(escape, row))
    return output


def save(result: Result, path: Path, settings: str) -> dict[str, Any]:
    """Add a result to the JSON file of all scenarios; return the whole content by scenario."""
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    saved[result.name] = asdict(result) | {"passed": result.passed, "run": _describe_run(settings)}
    path.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")
    return saved


def write_document(saved_results: Mapping[str, Any], order: Sequence[str], path: Path) -> None:
    """Write the results into a document, between the markers ``BEGIN`` and ``END``.

    Raises:
        ValueError: a marker is missing in the document.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must contain the markers {BEGIN} and {END}, in this order")
    lines = ["| | measured | bound | passed |", "|---|---|---|---|"]
    runs: dict[str, list[str]] = {}
    for name in (name for name in order if name in saved_results):
        result = saved_results[name]
        lines.append(f"| **{name}**: {result['title']} | | | |")
        for row in _rows(result):
            cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in row)
            lines.append(f"| {' | '.join(cells)} |")
        runs.setdefault(result["run"], []).append(name)
    lines += ["", *(f"- {run}: {', '.join(names)}." for run, names in sorted(runs.items()))]
    text = "\n".join(lines)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row per check: what was checked, the measured value, the bound, and yes or no."""
    if result["error"]:
        yield "could not be run", result["error"], "", "**no**"
    for check in result["checks"]:
        passed = ("yes" if check["passed"] else "**no**") if check["bound"] else ""
        yield check["what"], check["measured"], check["bound"], passed


def _describe_run(settings: str) -> str:
    """Return the date, the commit, the machine and the settings of this run, as text."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    day = datetime.now(UTC).date().isoformat()
    commit = git.stdout.strip() or "unknown"
    return f"{day}, commit {commit}, {reporting.machine()}; {settings}"
